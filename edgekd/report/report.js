"use strict";
// Shows what edgekd/report/content.py tells. Text goes into the page by textContent alone.
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function decode(text, kind) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return new kind(bytes.buffer);
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// --- words -------------------------------------------------------------------------------------------------------

const UNITS = [["s", 1, 120], ["min", 60, 7200], ["h", 3600, 172800], ["d", 86400, Infinity]];
function duration(seconds) {
  const [unit, size] = UNITS.find(([, , limit]) => Math.abs(seconds) < limit);
  return `${Number((seconds / size).toPrecision(3))} ${unit}`;
}
function written(seconds) {  // as options take it
  const found = [["d", 86400], ["h", 3600], ["min", 60]].find(([, size]) => seconds >= size && seconds % size === 0);
  const [unit, size] = found || ["s", 1];
  return `${Number((seconds / size).toPrecision(6))}${unit}`;
}
const number = (value, digits = 3) => value === null || value === undefined ? "–"
  : Math.abs(value) >= 10 ** digits ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(digits)));
const percent = (share) => share === 0 ? "" : share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const KIND = {score: "fast", slow: "slow", stuck: "stuck"};

function moment(x) {
  if (!data.dated) return `sample ${Math.round(x).toLocaleString("en")}`;
  return new Date(x * 1000).toISOString().slice(0, data.hop_s < 30 ? 19 : 16).replace("T", " ");
}

// --- bins and places -----------------------------------------------------------------------------------------------

const first = decode(data.bins.first, Uint32Array), x0 = decode(data.bins.x0, Float64Array);
const x1 = decode(data.bins.x1, Float64Array), n = first.length, sensors = data.sensors;
const from = x0[0], to = x1[n - 1] > x0[0] ? x1[n - 1] : x0[0] + 1;
const entity = new Set(data.entities.slice(1));  // bins that begin one
const middle = Float64Array.from(x0, (x, i) => (x + x1[i]) / 2);
const seconds = data.dated ? 1 : data.hop_s / data.hop;  // of one unit of x

function lastNotAbove(array, value) {
  let low = 0, high = array.length;
  while (low < high) {
    const half = (low + high) >> 1;
    if (array[half] <= value) low = half + 1; else high = half;
  }
  return Math.max(0, low - 1);
}
function xOf(sample) {
  const bin = lastNotAbove(first, sample), size = (bin + 1 < n ? first[bin + 1] : data.samples) - first[bin];
  return size > 1 ? x0[bin] + (x1[bin] - x0[bin]) * Math.min(1, (sample - first[bin]) / (size - 1)) : x0[bin];
}
const length = Float64Array.from(first, (sample, i) => (i + 1 < n ? first[i + 1] : data.samples) - sample);

// columns over bins [a, b) for a plot, with a hole where an entity begins
function columns(a, b, ...series) {
  const xs = [], made = series.map(() => []);
  for (let i = a; i < b; i++) {
    if (entity.has(i) && i > a) {
      xs.push((x1[i - 1] + x0[i]) / 2);
      made.forEach((column) => column.push(null));
    }
    xs.push(middle[i]);
    series.forEach((values, k) => made[k].push(Number.isNaN(values[i]) ? null : values[i]));
  }
  return [xs, ...made];
}

const packed = {low: decode(data.curves.low, Uint16Array), high: decode(data.curves.high, Uint16Array)};
function curve(sensor, side) {
  const base = data.curves.from[sensor], step = data.curves.step[sensor];
  return (bin) => base + step * packed[side][sensor * n + bin];
}
function unpackedShares(told) {
  if (!told) return null;
  const table = Float32Array.from({length: 256}, (_, q) => told.unit * Math.expm1(q * told.step));
  const codes = decode(told.data, Uint8Array);
  return (sensor, bin) => table[codes[sensor * n + bin]];
}
const share = unpackedShares(data.contributions), slowShare = unpackedShares(data.slow_contributions);
const score = {low: decode(data.score.low, Float32Array), high: decode(data.score.high, Float32Array)};
const unit = data.counting.now.threshold > 0 ? data.counting.now.threshold : 1;

// --- counting, as edgekd/evaluation/settings.py does it ------------------------------------------------------------

const counting = data.counting, faults = counting.faults, inVerdicts = faults.filter((fault) => fault.verdicts);
const samples = decode(counting.samples, Uint32Array), scores = decode(counting.scores, Float32Array);
const entityOf = Uint32Array.from(samples, (sample) => lastNotAbove(counting.entities, sample));

function episodes(setting) {
  const found = [], hop = data.hop;
  let quietUntil = -1, where = -1;
  for (let i = 0; i < samples.length; i++) {
    if (!(scores[i] > setting.threshold)) continue;
    let last = i, peak = i;
    while (last + 1 < samples.length && scores[last + 1] > setting.threshold && entityOf[last + 1] === entityOf[i]
      && samples[last + 1] - samples[last] === hop) {
      last++;
      if (scores[last] > scores[peak]) peak = last;
    }
    if (entityOf[i] !== where) {
      quietUntil = -1;
      where = entityOf[i];
    }
    const told = Math.max(samples[i] + setting.min_hops * hop, quietUntil);
    if (told <= samples[last]) {
      found.push({kind: "score", first: samples[i], sample: told, last: samples[last], peak: scores[peak]});
      quietUntil = samples[last] + hop + setting.cooldown_hops * hop;
    }
    i = last;
  }
  return found;
}

function outcome(setting) {
  const told = episodes(setting), toldAt = faults.map((fault) => fault.told);
  let next = 0;  // of the faults, the first that is not over before the alarm
  for (const alarm of told) {
    while (next < inVerdicts.length && inVerdicts[next].verdicts[1] < alarm.first) next++;
    const fault = inVerdicts[next];
    alarm.false = !(fault && fault.verdicts[0] <= alarm.sample);
  }
  let which = 0;
  faults.forEach((fault, i) => {
    if (!fault.verdicts) return;
    while (which < told.length && told[which].last < fault.verdicts[0]) which++;
    const alarm = told[which];
    if (!alarm || alarm.first > fault.verdicts[1]) return;
    const sample = Math.max(alarm.sample, fault.verdicts[0]);
    toldAt[i] = toldAt[i] === null ? sample : Math.min(toldAt[i], sample);
  });
  const delays = faults.map((fault, i) => toldAt[i] === null ? null : toldAt[i] - fault.begin).filter((d) => d !== null);
  delays.sort((a, b) => a - b);
  const half = delays.length >> 1, odd = delays.length % 2;
  return {
    told,
    alarms: told.length + counting.others.length,
    false: told.filter((alarm) => alarm.false).length + counting.others.filter((alarm) => alarm.false).length,
    found: delays.length,
    delay_s: !delays.length ? null : (odd ? delays[half] : (delays[half - 1] + delays[half]) / 2) * data.hop_s / data.hop,
    chance: byChance(told),
  };
}

// faults of these lengths that the same alarms find at random times, on average
function byChance(told) {
  if (!faults.length) return 0;
  const spans = [...told.map((a) => [a.first - data.hop + 1, a.last + 1]), ...counting.others_tell];
  spans.sort((a, b) => a[0] - b[0]);
  return faults.reduce((sum, fault) => {
    const before = fault.end - fault.begin - 1;
    let covered = 0, until = -before;
    for (const [begin, end] of spans) {
      const start = Math.max(begin - before, until);
      if (end > start) {
        covered += end - start;
        until = end;
      }
    }
    return sum + Math.min(1, covered / data.samples);
  }, 0);
}

// --- plots ---------------------------------------------------------------------------------------------------------

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

// --- sensors over time ---------------------------------------------------------------------------------------------

const usual = sensors.map((_, s) => {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += share(s, i) * length[i];
  return sum / data.samples;
});
const strongest = sensors.map((_, s) => {
  let sum = 0;
  for (let i = 0; i < n; i++) if (score.high[i] > counting.now.threshold) sum += share(s, i);
  return sum + 1e-9 * usual[s];
});
const heatOrder = sensors.map((_, s) => s).sort((a, b) => strongest[b] - strongest[a]);
const FEW = 15;
const heatRows = () => state.allSensors ? heatOrder : heatOrder.slice(0, FEW);

function paintHeat(u) {
  const order = heatRows(), {ctx, bbox} = u, w = Math.round(bbox.width), base = color("heat");
  const a = lastNotAbove(x0, state.view[0]), b = Math.min(n, lastNotAbove(x0, state.view[1]) + 1);
  const pixel = new Int32Array(b + 1);
  for (let i = a; i < b; i++) pixel[i] = Math.round(u.valToPos(x0[i], "x", true) - bbox.left);
  pixel[b] = Math.round(u.valToPos(x1[b - 1], "x", true) - bbox.left) + 1;
  const height = bbox.height / order.length, shade = (value) => Math.round(20 * Math.min(1, value / unit) ** 0.7);
  order.forEach((sensor, row) => {
    const strength = new Float32Array(w + 1);
    for (let i = a; i < b; i++) {
      const value = share(sensor, i), end = Math.min(w, Math.max(pixel[i + 1], pixel[i] + 1));
      for (let p = Math.max(0, pixel[i]); p < end; p++) if (value > strength[p]) strength[p] = value;
    }
    for (let p = 0; p < w;) {
      const level = shade(strength[p]);
      let q = p + 1;
      while (q < w && shade(strength[q]) === level) q++;
      if (level) {
        ctx.fillStyle = `rgba(${base},${level / 20})`;
        ctx.fillRect(bbox.left + p, bbox.top + row * height, q - p, Math.ceil(height) - 1);
      }
      p = q;
    }
  });
}
const heatHeight = () => 16 * heatRows().length + 8;

// --- a selection: its sensors, the most unusual first ----------------------------------------------------------------

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

// --- alarms ----------------------------------------------------------------------------------------------------------

const LISTED = 300;
let listed = [];
function topSensors(alarm) {
  if (alarm.sensor) return alarm.sensor;
  const shares = alarm.kind === "slow" && slowShare ? slowShare : share, [a, b] = binsOf([xOf(alarm.first), xOf(alarm.last)]);
  const means = sensors.map((_, s) => weighted(a, Math.min(b, a + 20), (i) => shares(s, i)));  // as it begins
  const order = means.map((_, s) => s).sort((one, other) => means[other] - means[one]);
  return order.slice(0, 2).filter((s) => means[s] > 0).map((s) => sensors[s].name).join(", ");
}
function listAlarms() {
  const all = [...state.outcome.told, ...counting.others].sort((one, other) => one.sample - other.sample);
  const here = all.filter((alarm) => xOf(alarm.last) >= state.view[0] && xOf(alarm.first) <= state.view[1]);
  listed = here.slice(0, LISTED);
  const more = here.length > LISTED ? `; the first ${LISTED} are listed, zoom in for the others` : "";
  at("alarms-label").textContent = `${count(here.length, "alarm")}${here.length < all.length ? " in view" : ""}${more}`;
  at("alarms").replaceChildren(...listed.map((alarm, i) => {
    const so = counting.labeled ? (alarm.false ? "false" : "fault") : "";
    const severe = alarm.peak && state.setting.threshold > 0 ? `×${number(alarm.peak / state.setting.threshold, 2)}` : "";
    return element("option", [moment(xOf(alarm.sample)), KIND[alarm.kind], severe, so, topSensors(alarm)].filter(Boolean).join("  "), {value: i});
  }));
}
function chooseAlarm(i) {
  const alarm = listed[i];
  if (alarm) select([xOf(alarm.first), xOf(alarm.last)], alarm);
}

// --- settings --------------------------------------------------------------------------------------------------------

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

// --- another model, the device, the data, the model --------------------------------------------------------------------

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

// --- begin -------------------------------------------------------------------------------------------------------------

at("title").textContent = data.title;
at("made").textContent = data.made;
at("words").replaceChildren(...data.words.map((text) => element("p", text, text.startsWith("Judgement") ? {class: "judgement"} : {})));
state.outcome = outcome(state.setting);
const scorePlot = drawScore();
const lanesPlot = rows(at("lanes"), 20 * lanes.length + 8, () => lanes.map((lane) => lane.name), paintLanes);
const heat = rows(at("heat"), heatHeight(), () => heatRows().map((s) => sensors[s].name), paintHeat);
drawSettings();
drawCost();
scorePlot.over.append(across);
cost.over.append(upright);
drawAgainst();
drawDevice();
drawQuality();
drawModel();
set({});
listAlarms();
chooseAlarm(listed.reduce((best, alarm, i) => (alarm.peak || 0) > (listed[best].peak || 0) ? i : best, 0));
at("alarms").value = listed.indexOf(state.chosen);
if (!listed.length) at("selected").textContent = "Nothing is selected; drag over a time above.";

at("alarms").onchange = (event) => chooseAlarm(Number(event.target.value));
at("slider").oninput = (event) => {
  state.setting.threshold = thresholdAt(Number(event.target.value));
  at("threshold").value = state.setting.threshold;
  update();
};
at("threshold").onchange = (event) => {
  const value = Number(event.target.value);
  set({threshold: Number.isFinite(value) && event.target.value ? Math.max(value, counting.lowest) : state.setting.threshold});
};
for (const [id, name] of [["duration", "min_hops"], ["cooldown", "cooldown_hops"]]) {
  at(id).onchange = (event) => {
    set({[name]: Number(event.target.value)});
    cost.setData(costColumns());
  };
}
at("zoom").onclick = () => state.span && show(widened(state.span));
at("whole").onclick = () => show([from, to]);
function widened([a, b]) {
  const room = Math.max((b - a) * 0.1, 5 * data.hop_s / seconds);
  return [Math.max(from, a - room), Math.min(to, b + room)];
}
const all = at("all");
all.hidden = sensors.length <= FEW;
function sayAll() {
  all.textContent = state.allSensors ? `Show ${FEW} sensors` : `Show all ${sensors.length} sensors`;
  all.setAttribute("aria-pressed", state.allSensors);
}
sayAll();
all.onclick = () => {
  state.allSensors = !state.allSensors;
  sayAll();
  heat.setSize({width: width(at("heat")), height: heatHeight()});
  heat.setData(heat.data);
};
at("score").onkeydown = (event) => {
  const side = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (side) {
    const [low, high] = state.view, begin = state.span || [(low + high) / 2, (low + high) / 2 + (high - low) / 50];
    const step = Math.max((high - low) / 100, (begin[1] - begin[0]) / 4);
    const moved = event.shiftKey ? [begin[0], Math.max(begin[0] + step / 4, begin[1] + side * step)] : begin.map((x) => x + side * step);
    const back = Math.max(0, from - moved[0]) - Math.max(0, moved[1] - to);
    select([Math.max(from, moved[0] + back), Math.min(to, moved[1] + back)], null);
  } else if (event.key === "Enter" && state.span) show(widened(state.span));
  else if (event.key === "Escape") show([from, to]);
  else return;
  event.preventDefault();
};

function fit() {
  for (const plot of plots) plot.setSize({width: width(plot.root.parentElement), height: plot.height});
  for (const plot of small) plot.setSize({width: width(plot.root.parentElement), height: plot.height});
  showSelect();
  placeThreshold();
}
const redraw = () => [...plots, ...small].forEach((plot) => plot.redraw(true, true));
let later = 0;
window.addEventListener("resize", () => {
  clearTimeout(later);
  later = setTimeout(fit, 100);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
window.addEventListener("beforeprint", () => {
  document.documentElement.dataset.print = "";
  document.body.style.width = "680px";  // of a page of paper
  fit();
  redraw();
});
window.addEventListener("afterprint", () => {
  delete document.documentElement.dataset.print;
  document.body.style.width = "";
  fit();
  redraw();
});
})();
