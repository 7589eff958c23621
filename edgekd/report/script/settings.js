// The slider, and what each setting costs.

const STEPS = 1000, top = counting.highest + Math.abs(counting.highest) * 0.02 || 1;
const ratio = counting.lowest > 0 ? top / counting.lowest : null;
const thresholdAt = (step) => Number((ratio ? counting.lowest * ratio ** (step / STEPS)
  : counting.lowest + (top - counting.lowest) * step / STEPS).toPrecision(4));
const stepAt = (threshold) => Math.round(STEPS * (ratio ? Math.log(threshold / counting.lowest) / Math.log(ratio)
  : (threshold - counting.lowest) / (top - counting.lowest)));
const short = (threshold) => String(Number(threshold.toPrecision(6)));
const perDay = (alarms) => counting.days ? alarms / counting.days : null;

function told(found) {
  const a = perDay(counting.labeled ? found.false : found.alarms);
  const parts = [a === null ? "no normal time" : `${number(a, 2)} ${counting.labeled ? "false " : ""}alarms a day`];
  if (faults.length) {
    parts.push(`${found.found} of ${count(faults.length, "fault")} found (by chance ${number(found.chance, 2)})`);
    if (found.delay_s !== null) parts.push(`typical delay ${duration(found.delay_s)}`);
  }
  return parts.join(" · ");
}
function options(setting) {
  const found = setting.threshold === counting.own ? {} : {threshold: short(setting.threshold)};
  if (setting.min_hops) found["min-duration"] = written(setting.min_hops * data.hop_s);
  if (setting.cooldown_hops !== counting.cooldowns[0]) found.cooldown = written(setting.cooldown_hops * data.hop_s);
  return found;
}
function update() {
  state.outcome = outcome(state.setting);
  const found = state.outcome, output = at("outcome");
  output.textContent = told(found);
  Object.assign(output.dataset, {alarms: found.alarms, false: found.false, found: found.found, delay: found.delay_s ?? ""});
  const given = Object.entries(options(state.setting));
  at("command").textContent = [counting.run, ...given.map(([name, value]) => `--${name} ${value}`)].join(" ");
  at("gateway").hidden = !given.length;
  at("toml").textContent = given.map(([name, value]) => name === "threshold" ? `${name} = ${value}` : `${name} = "${value}"`).join("\n");
  settingsRow.replaceChildren(...cells("the slider", state.setting, found));
  placeThreshold();
  lanesPlot.redraw(false, false);
  clearTimeout(update.later);  // the list is long, and nobody reads it while the slider moves
  update.later = setTimeout(listAlarms, 120);
}
function set(setting) {
  Object.assign(state.setting, setting);
  at("slider").value = Math.min(STEPS, Math.max(0, stepAt(state.setting.threshold)));
  at("threshold").value = short(state.setting.threshold);
  at("duration").value = state.setting.min_hops;
  at("cooldown").value = state.setting.cooldown_hops;
  update();
}

const settingsRow = element("tr", undefined, {class: "here"});
function cells(name, setting, found) {
  const lasting = setting.min_hops ? `, lasting ${duration(setting.min_hops * data.hop_s)}` : "";
  const quiet = setting.cooldown_hops !== counting.cooldowns[0] ? `, then quiet for ${duration(setting.cooldown_hops * data.hop_s)}` : "";
  const texts = [name, number(setting.threshold, 4) + lasting + quiet, number(perDay(found.alarms), 2)];
  if (counting.labeled) texts.push(number(perDay(found.false), 2));
  if (faults.length) texts.push(`${found.found} of ${faults.length}`, number(found.chance, 2), found.delay_s === null ? "–" : duration(found.delay_s));
  return texts.map((text, i) => element("td", text, i > 1 ? {class: "number"} : {}));
}
function head(names, plain = 2) {
  const row = element("tr");
  row.append(...names.map((name, i) => element("th", name, {scope: "col", ...(i >= plain ? {class: "number"} : {})})));
  return row;
}
function drawSettings() {
  const names = ["setting", "threshold", "alarms a day"];
  if (counting.labeled) names.push("false a day");
  if (faults.length) names.push("faults found", "by chance", "typical delay");
  const listedSettings = [["now", counting.now],
    ...counting.budgets.map(([a, threshold]) => [`trained for ${a} a day`, {...counting.now, threshold}]),
    ...(counting.advice ? [["best for these labels", counting.advice]] : [])];
  at("settings").replaceChildren(head(names), ...listedSettings.map(([name, setting]) => {
    const row = element("tr"), known = setting.threshold >= counting.lowest;
    row.append(...(known ? cells(name, setting, outcome(setting)) : [element("td", name), element("td", number(setting.threshold, 4)),
      element("td", "a tenth of the time and more in alarm", {colspan: names.length - 2})]));
    return row;
  }), settingsRow);
  at("slider").max = STEPS;
  at("threshold").min = counting.lowest;
  for (const [id, choices, now] of [["duration", counting.durations, counting.now.min_hops], ["cooldown", counting.cooldowns, counting.now.cooldown_hops]]) {
    const hops = [...new Set([...choices, now])].sort((a, b) => a - b);
    at(id).replaceChildren(...hops.map((hop) => element("option", hop ? duration(hop * data.hop_s) : "any time", {value: hop})));
  }
  advise();
}
function advise() {
  const target = at("advice"), now = outcome(counting.now);
  if (counting.advice) {
    const then = outcome(counting.advice);
    target.append(`The setting that tells the fewest false alarms and loses no true one: ${then.false} in place of ${now.false}, `
      + `${then.found} of ${count(faults.length, "fault")} found, typical delay ${duration(then.delay_s)}. `);
    const button = element("button", "Try it", {type: "button", id: "try"});
    button.onclick = () => set({...counting.advice});
    target.append(button);
    return;
  }
  target.textContent = !counting.labeled
    ? "Nobody has said which of these alarms are true. Mark them on the gateway's page, give the marks to this report with --marks, and it says which setting tells the fewest false ones."
    : !now.found ? "No true alarm is told here, so no setting can be said to lose none."
    : "No higher threshold, longer minimum duration or longer cooldown tells fewer false alarms without losing a true one.";
}
let cost = null;
function costColumns() {
  const steps = Array.from({length: 101}, (_, i) => thresholdAt(i * STEPS / 100)).filter((v, i, all) => i === 0 || v > all[i - 1]);
  const found = steps.map((threshold) => outcome({...state.setting, threshold}));
  return [steps, found.map((one) => perDay(counting.labeled ? one.false : one.alarms)), found.map((one) => faults.length ? one.found : null)];
}
function drawCost() {
  const label = counting.labeled ? "false alarms a day" : "alarms a day";
  const [x, y] = axes(NARROW, {y: {label, labelSize: 18, labelFont: "12px system-ui", stroke: () => color("alarm")}});
  const right = {...y, side: 1, scale: "faults", label: "faults found", stroke: () => color("found"), grid: {show: false}, size: 46};
  cost = new uPlot({
    width: width(at("cost")), height: 230, padding: [8, 8, 0, 0], legend: {show: false},
    cursor: {drag: {x: false, y: false}, points: {show: false}},
    scales: {x: {time: false, range: () => [counting.lowest, top], ...(ratio ? {distr: 3} : {})}, y: {range: (u, low, high) => [0, high * 1.05 || 1]}, faults: {range: () => [0, faults.length * 1.05 || 1]}},
    axes: faults.length ? [{...x, label: "threshold", labelSize: 16, labelFont: "12px system-ui", values: (u, ticks) => ticks.map((v) => v === null ? "" : number(v))}, y, right] : [x, y],
    series: [{}, {stroke: () => color("alarm"), width: 1.5, points: {show: false}}, {scale: "faults", stroke: () => color("found"), width: 1.5, points: {show: false}}],
  }, costColumns(), at("cost"));
  cost.over.onclick = () => set({threshold: Number(cost.posToVal(cost.cursor.left, "x").toPrecision(4))});
  plots.push(cost);
}
// elements over the plots: they move without drawing anything again
const across = element("div", undefined, {class: "threshold"}), upright = element("div", undefined, {class: "marker"});
function placeThreshold() {
  const {threshold} = state.setting;
  across.style.top = `${scorePlot.valToPos(Math.max(threshold, floor), "y")}px`;
  upright.style.left = `${cost.valToPos(Math.min(Math.max(threshold, counting.lowest), top), "x")}px`;
}
