// Another model, the device, the data, the model.

function table(target, names, lines, plain) {
  target.replaceChildren(head(names, plain), ...lines.map((line) => {
    const row = element("tr");
    row.append(...line.map((text, i) => element("td", text, {class: i >= plain ? "number" : "wide"})));
    return row;
  }));
}
function drawAgainst() {
  const other = data.against;
  if (!other) return;
  at("against").hidden = false;
  at("against-heading").textContent = `Beside ${other.names[1]}`;
  const mine = score.high.map((v) => v / unit), theirs = decode(other.severity.high, Float32Array);
  const most = Math.max(...[mine, theirs].map((values) => values.reduce((m, v) => v > m ? v : m, 1)));
  const floor = 0.01, log = most > 30, lifted = (values) => log ? values.map((v) => Math.max(v, floor)) : values;
  timePlot(at("severities"), 220, {
    scales: {y: log ? {distr: 3, range: () => [floor, most * 1.5]} : {range: () => [0, most * 1.08]}},
    axes: axes(left, {x: timeAxis, y: {values: (u, ticks) => ticks.map((v) => v === null ? "" : number(v))}}),
    series: [{}, {stroke: () => color("score"), width: 1, points: {show: false}}, {stroke: () => color("other"), width: 1, points: {show: false}}],
    hooks: {drawClear: [paintFaults], draw: [(u) => clipped(u, () => line(u, 1, "alarm"))]},
  }, columns(0, n, lifted(mine), lifted(theirs)));
  const rows = other.rows, line2 = (name, say) => [name, ...rows.map(say)];
  table(at("both"), ["", ...other.names], [
    line2("in words", (_, i) => (i ? other.words : data.words).join(" ")),
    line2("method", (row) => row.method), line2("numbers", (row) => row.numbers),
    line2("file", (row) => `${number(row.bytes / 1000)} kB`), line2("parameters", (row) => number(row.parameters, 7)),
    line2("multiply-adds a step", (row) => number(row.multiply_adds, 9)), line2("threshold", (row) => number(row.threshold, 4)),
    line2("faults found", (row) => row.faults ? `${row.found} of ${row.faults}` : "–"),
    line2("typical delay", (row) => row.delay_median_s === null ? "–" : duration(row.delay_median_s)),
    line2("false alarms a day", (row) => number(row.false_alarms_per_day, 2)),
  ], 3);
  const alike = other.rank_correlation === null ? [] : [`rank correlation of the scores ${number(other.rank_correlation, 4)}`];
  if (other.changed_decisions !== null) alike.push(`${percent(other.changed_decisions) || "none"} of the decisions differ`);
  at("alike").textContent = `Score over threshold of ${other.names[0]} (blue) and ${other.names[1]} (brown), 1 is an alarm; ${alike.join(", ")}.`;
}
function drawDevice() {
  if (data.told === null) return;
  at("device").hidden = false;
  const kinds = Object.keys(KIND).map((kind) => [kind, data.told.filter((a) => a.kind === kind).length]).filter(([, k]) => k);
  at("device-words").textContent = `In this time the device told ${count(data.told.length, "alarm")}`
    + (kinds.length ? ` (${kinds.map(([kind, k]) => `${k} ${KIND[kind]}`).join(", ")})` : "")
    + `. Scored again from a cold start at the same threshold, it is ${outcome(counting.now).alarms}.`;
  const marked = (alarm) => {
    const x = xOf(alarm.at), mark = [...data.marks].reverse().find((m) => data.dated && x >= m.start_s - 1 && x <= m.end_s + 1);
    return mark ? `${mark.true ? "true" : "false"}${mark.note ? `: ${mark.note}` : ""}` : "";
  };
  table(at("device-alarms"), ["time", "kind", "severity", "sensors", "marked"], data.told.map((alarm) => [
    moment(xOf(alarm.at)), KIND[alarm.kind], alarm.severity === null ? "" : number(alarm.severity), alarm.sensors.join(", "), marked(alarm),
  ]), 5);
}
function drawQuality() {
  const stuck = (name) => counting.others.filter((alarm) => alarm.kind === "stuck" && alarm.sensor === name).length;
  const gaps = [...data.gaps].sort((a, b) => b[1] - a[1]).slice(0, 5).sort((a, b) => a[0] - b[0]);
  const words = gaps.map(([sample, lasted]) => `${duration(lasted)} before ${moment(xOf(sample))}`).join(", ");
  const notes = [data.gaps.length ? `${count(data.gaps.length, "gap")}: ${words}${data.gaps.length > 5 ? " …" : ""}` : "No gaps.", ...data.notes];
  at("notes").replaceChildren(...notes.map((note) => element("li", note)));
  table(at("quality"), ["sensor", "unit", "normal", "outside normal", "missing", "stuck"], sensors.map((sensor) => [
    sensor.name + (sensor.dropped ? " (left out)" : ""), sensor.unit, `${number(sensor.low, 5)} to ${number(sensor.high, 5)}`,
    percent(sensor.outside), sensor.missing === null ? "" : percent(sensor.missing), stuck(sensor.name) ? `${stuck(sensor.name)}×` : "",
  ]), 3);
}
function drawModel() {
  at("model").replaceChildren(...data.model.flatMap(([name, texts]) => texts.map((text, i) => {
    return [element("dt", i ? "" : name), element("dd", text)];
  })).flat());
}
