// A selection: its sensors, the most unusual first.

function binsOf([a, b]) {
  const begin = lastNotAbove(x0, a), end = lastNotAbove(x0, b) + 1;
  return [begin, Math.max(begin + 1, end)];
}
function weighted(a, b, of) {  // the mean over the samples of bins [a, b)
  let sum = 0, size = 0;
  for (let i = a; i < b; i++) {
    sum += of(i) * length[i];
    size += length[i];
  }
  return sum / size;
}
function ranked(span, shares, usually) {
  const [a, b] = binsOf(span), means = sensors.map((_, s) => weighted(a, b, (i) => shares(s, i)));
  const total = means.reduce((sum, mean) => sum + mean, 0) || 1;
  const found = sensors.map((sensor, s) => {
    const low = curve(s, "low"), high = curve(s, "high"), step = data.curves.step[s];
    const outside = (i) => low(i) < sensor.low - step || high(i) > sensor.high + step;
    const ratio = usually ? means[s] / (usually[s] || 1e-12) : null;
    return {sensor: s, mean: means[s], ratio, part: means[s] / total, outside: weighted(a, b, outside)};
  });
  return found.sort((one, other) => other.mean - one.mean);
}

function select(span, alarm) {
  state.span = span;
  state.chosen = alarm;
  showSelect();
  const [a, b] = span;
  const kind = alarm ? `${KIND[alarm.kind]} alarm` : "Selected";
  const lasted = duration(Math.max((b - a) * seconds, alarm ? data.hop_s : 0));
  const so = alarm && counting.labeled ? (alarm.false ? ", false" : ", a fault") : "";
  at("selected").textContent = `${kind[0].toUpperCase()}${kind.slice(1)}, ${moment(a)}, ${lasted}${so}`;
  const slow = alarm && alarm.kind === "slow" && slowShare;
  let order = ranked(span, slow ? slowShare : share, slow ? null : usual);
  if (alarm && alarm.kind === "stuck") {
    const stuck = sensors.findIndex((sensor) => sensor.name === alarm.sensor);
    order = [order.find((one) => one.sensor === stuck), ...order.filter((one) => one.sensor !== stuck)];
  }
  at("ranking").replaceChildren(...order.slice(0, 8).map((one) => {
    const item = element("li"), button = element("button", undefined, {type: "button"});
    const ratio = one.ratio === null || one.ratio < 1.05 ? "" : `${number(one.ratio, 2)}× its usual`;
    const outside = one.outside ? `${percent(one.outside)} outside normal` : "";
    button.append(element("span", sensors[one.sensor].name), element("span", percent(one.part) || "0 %"),
      element("meter", undefined, {value: one.part, max: 1, "aria-hidden": "true"}),
      element("small", [ratio, outside].filter(Boolean).join(", ")));
    button.onclick = () => drawCurves(span, [one.sensor, ...order.map((o) => o.sensor).filter((s) => s !== one.sensor)]);
    item.append(button);
    return item;
  }));
  drawCurves(span, order.map((one) => one.sensor));
}
const CURVES = 4;
function drawCurves([a, b], order) {
  small.splice(0).forEach((plot) => plot.destroy());
  const around = Math.max((b - a) * 0.75, 30 * data.hop_s / seconds);
  const view = [Math.max(from, a - around), Math.min(to, b + around)];
  at("curves").replaceChildren(...order.slice(0, CURVES).map((s) => {
    const sensor = sensors[s], figure = element("figure"), caption = element("figcaption");
    caption.append(element("b", sensor.name + (sensor.unit ? ` [${sensor.unit}]` : "")),
      ` normally ${number(sensor.low, 5)} to ${number(sensor.high, 5)}`);
    figure.append(caption);
    return figure;
  }));
  const [begin, end] = [lastNotAbove(x0, view[0]), lastNotAbove(x0, view[1]) + 1];
  [...at("curves").children].forEach((figure, i) => {
    const s = order[i], sensor = sensors[s], values = {low: curve(s, "low"), high: curve(s, "high")};
    const over = (side) => {
      const made = new Float64Array(n);
      for (let bin = begin; bin < end; bin++) made[bin] = values[side](bin);
      return made;
    };
    const low = over("low"), high = over("high");
    let least = sensor.low, most = sensor.high;
    for (let bin = begin; bin < end; bin++) {
      least = Math.min(least, low[bin]);
      most = Math.max(most, high[bin]);
    }
    const room = (most - least) * 0.06 || Math.abs(most) * 0.05 || 1;
    small.push(new uPlot({
      width: width(figure), height: 112, tzDate, padding: [4, RIGHT, 0, 0], legend: {show: false},
      cursor: {drag: {x: false, y: false}, points: {show: false}},
      scales: {x: {time: data.dated, range: () => view}, y: {range: () => [least - room, most + room]}},
      axes: axes(NARROW, {x: timeAxis, y: {space: 22, values: (u, ticks) => ticks.map((v) => number(v, 4))}}),
      series: [{}, {stroke: () => color("score"), width: 1.2, points: {show: false}}, {stroke: () => color("score"), width: 1.2, points: {show: false}}],
      bands: [{series: [1, 2], fill: () => color("band")}],
      hooks: {drawClear: [(u) => {
        paintFaults(u);
        clipped(u, () => {
          const top = u.valToPos(sensor.high, "y", true), bottom = u.valToPos(sensor.low, "y", true);
          u.ctx.fillStyle = color("normal");
          u.ctx.fillRect(u.bbox.left, top, u.bbox.width, Math.max(bottom - top, 2));
          paintSpan(u, a, b, color("select"));
        });
      }]},
    }, columns(begin, end, high, low), figure));
  });
}
function showSelect() {
  for (const plot of plots) {
    if (!state.span || !plot.sharesTime) continue;
    const left = plot.valToPos(Math.max(state.span[0], state.view[0]), "x");
    const right = plot.valToPos(Math.min(state.span[1], state.view[1]), "x");
    const seen = state.span[1] >= state.view[0] && state.span[0] <= state.view[1];
    plot.setSelect({left, top: 0, width: seen ? Math.max(2, right - left) : 0, height: plot.over.clientHeight}, false);
  }
}
function show(view) {
  state.view = view;
  for (const plot of plots) if (plot.sharesTime) plot.setScale("x", {min: view[0], max: view[1]});
  showSelect();
  listAlarms();
}
