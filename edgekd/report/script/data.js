// What the page was given, and how it is said.

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
