// Plots over time: scores, lanes of alarms.

const RIGHT = 12, NARROW = 56;
const left = () => innerWidth < 700 || "print" in document.documentElement.dataset ? 72 : 132;  // so that names fit and all times align
const plots = [], small = [];  // those that stay, and the curves of a selection
const state = {view: [from, to], span: null, setting: {...counting.now}, outcome: null, chosen: null, allSensors: false};

function axes(size, more = {}) {
  const lines = () => color("line"), ink = () => color("faint");
  const common = {stroke: ink, grid: {stroke: lines, width: 1}, ticks: {stroke: lines, width: 1, size: 4}, font: "12px system-ui"};
  return [{...common, ...more.x}, {...common, size, ...more.y}];
}
function dates(u, ticks, axis, space, step) {  // the date where it changes, the time of day where ticks are closer than days
  let before = null;
  return ticks.map((tick) => {
    if (tick === null) return "";
    const text = new Date(tick * 1000).toISOString(), day = text.slice(0, 10), time = text.slice(11, step < 60 ? 19 : 16);
    const said = step >= 86400 ? day : day === before ? time : `${time}\n${day}`;
    before = day;
    return said;
  });
}
const timeAxis = data.dated ? {values: dates, space: 80} : {values: (u, ticks) => ticks.map((v) => v === null ? "" : v.toLocaleString("en"))};
const tzDate = (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC");
const width = (target) => Math.max(200, target.clientWidth);
const fullTime = () => ({time: data.dated, range: () => state.view});

function timePlot(target, height, options, columns) {
  const plot = new uPlot({
    width: width(target), height, tzDate, padding: [6, RIGHT, 0, 0], legend: {show: false},
    cursor: {sync: {key: "time", scales: ["x", null]}, drag: {x: true, y: false, setScale: false}, points: {show: false}},
    ...options,
    scales: {x: fullTime(), ...options.scales},
    hooks: {...options.hooks, setSelect: [(u) => u.select.width > 2 && selected(u)]},
  }, columns, target);
  plot.sharesTime = true;
  plots.push(plot);
  return plot;
}
function selected(u) {
  const a = u.posToVal(u.select.left, "x"), b = u.posToVal(u.select.left + u.select.width, "x");
  if (state.span && Math.abs(state.span[0] - a) + Math.abs(state.span[1] - b) < (b - a) / 1e6) return;
  select([a, b], null);
}
function paintSpan(u, a, b, fill, top = 0, height = 1) {
  const left = u.valToPos(Math.max(a, u.scales.x.min), "x", true), right = u.valToPos(Math.min(b, u.scales.x.max), "x", true);
  if (right < left) return;
  u.ctx.fillStyle = fill;
  const least = 2 * devicePixelRatio, w = Math.max(right - left, least);
  u.ctx.fillRect((left + right - w) / 2, u.bbox.top + top * u.bbox.height, w, height * u.bbox.height);
}
function clipped(u, paint) {
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  u.ctx.clip();
  paint();
  u.ctx.restore();
}
const faultSpans = faults.map((fault) => [xOf(fault.begin), xOf(Math.max(fault.begin, fault.end - 1))]);
const paintFaults = (u) => clipped(u, () => faultSpans.forEach(([a, b]) => paintSpan(u, a, b, color("label"))));

function line(u, value, name, dash = [6, 3]) {
  const y = u.valToPos(value, "y", true), {ctx, bbox} = u;
  ctx.save();
  ctx.strokeStyle = color(name);
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.setLineDash(dash.map((d) => d * devicePixelRatio));
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

const sortedHighs = Array.from(score.high).filter((v) => !Number.isNaN(v)).sort((a, b) => a - b);
const usualHigh = sortedHighs[sortedHighs.length >> 1] || 0, peak = Math.max(counting.highest, usualHigh);
const logarithmic = usualHigh > 0 && peak > 30 * usualHigh;
const floor = logarithmic ? Math.max(1e-12, sortedHighs.find((v) => v > 0) / 2) : Math.min(0, sortedHighs[0] || 0);
const yScale = logarithmic ? {distr: 3, range: () => [floor, peak * 1.5]} : {range: () => [floor, floor + (peak - floor) * 1.08]};

function drawScore() {
  const lifted = (values) => values.map((v) => Math.max(v, floor));
  return timePlot(at("score"), 260, {
    scales: {y: yScale},
    axes: axes(left, {x: timeAxis, y: {values: (u, ticks) => ticks.map((v) => v === null ? "" : number(v))}}),
    series: [{}, {stroke: () => color("score"), width: 1, points: {show: false}}, {points: {show: false}}],
    bands: [{series: [1, 2], fill: () => color("band")}],
    hooks: {
      drawClear: [paintFaults],
    },
  }, columns(0, n, lifted(score.high), lifted(score.low)));
}

// rows painted by hand over the shared time, with a name each
function rows(target, height, names, paint) {
  return timePlot(target, height, {
    scales: {y: {dir: -1, range: () => [0, names().length]}},
    axes: axes(left, {
      x: {show: true, size: 0, values: () => [], ticks: {show: false}},
      y: {
        splits: () => names().map((_, i) => i + 0.5), grid: {show: false}, ticks: {show: false}, gap: 4,
        values: (u, splits) => splits.map((v) => fitting(u.ctx, names()[Math.floor(v)] || "", left() - 8)),
      },
    }),
    series: [{}, {points: {show: false}}],
    hooks: {draw: [(u) => clipped(u, () => paint(u))]},
  }, [[from, to], [null, null]]);
}
function fitting(ctx, name, pixels) {
  ctx.save();
  ctx.font = "12px system-ui";
  let text = name;
  while (text.length > 1 && ctx.measureText(text === name ? name : `${text}…`).width > pixels) text = text.slice(0, -1);
  ctx.restore();
  return text === name ? name : `${text}…`;
}

const lanes = [
  {name: "fault", show: counting.labeled, spans: () => faultSpans.map(([a, b]) => ({a, b, color: "label"}))},
  {name: "fast", show: true, spans: () => state.outcome.told.map(spanOf)},
  {name: "slow", show: data.slow !== null, spans: () => counting.others.filter((a) => a.kind === "slow").map(spanOf)},
  {name: "stuck", show: counting.others.some((a) => a.kind === "stuck"),
    spans: () => counting.others.filter((a) => a.kind === "stuck").map(spanOf)},
  {name: "device", show: data.told !== null,
    spans: () => data.told.map((a) => ({a: xOf(a.first), b: xOf(a.last), color: KIND[a.kind] === "fast" ? "alarm" : a.kind}))},
  {name: "marks", show: data.dated && data.marks.length > 0,
    spans: () => data.marks.map((m) => ({a: m.start_s, b: m.end_s, color: m.true ? "found" : "faint"}))},
].filter((lane) => lane.show);
function spanOf(alarm) {
  const plain = alarm.kind === "score" ? "alarm" : alarm.kind;
  return {a: xOf(alarm.first), b: xOf(alarm.last), color: counting.labeled && !alarm.false ? "found" : plain};
}
function paintLanes(u) {
  lanes.forEach((lane, i) => {
    for (const {a, b, color: name} of lane.spans()) paintSpan(u, a, b, color(name), (i + 0.18) / lanes.length, 0.64 / lanes.length);
  });
}
