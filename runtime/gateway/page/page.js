// The gateway's page: a list of streams, and one stream with its curves and alarms. No text from outside becomes HTML.
"use strict";

const POLL_MS = 2000, RERANK_MS = 300_000;
const SPANS = [["Hour", 3600], ["6 hours", 21_600], ["Day", 86_400], ["Week", 604_800], ["Month", 2_678_400]];
const QUIET_EVENTS = new Set(["anomaly", "anomaly_end"]);
const $ = (id) => document.getElementById(id);
const brought = document.querySelector("meta[name=token]").content;
const view = { stream: null, seconds: 21_600, from: 0, to: 0, sensors: [], changes: -1, curves: null, loadedAt: 0 };
let facts = null, charts = [], timer = 0, turns = 0, loading = 0, tables = 0;

// --- the gateway ---

class Wrong extends Error {}

function token() { return brought || localStorage.getItem("edgekd-token") || ""; }

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { Authorization: `Bearer ${token()}` }, cache: "no-store" });
  } catch {
    throw new Error("The gateway does not answer.");
  }
  if (answer.status === 401) throw new Wrong("wrong token");
  if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).error || `error ${answer.status}`);
  return answer;
}

async function read(path, query) { return (await ask(`${path}?${new URLSearchParams(query)}`)).json(); }

async function change(path, what) { await ask(path, { method: "POST", body: JSON.stringify(what) }); }

// --- words ---

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minute = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });
const moment = (at) => `${day.format(at * 1000)} ${clock.format(at * 1000)}`;
const number = (value) => value == null ? "–" : Number(value.toPrecision(4)).toLocaleString("en");
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function lasting(seconds) {
  if (seconds < 120) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Number((seconds / 3600).toPrecision(2))} h` : `${Math.round(seconds / 86_400)} d`;
}

const STATES = {
  normal: "● normal", alarm: "▲ alarm", silent: "○ no samples", waiting: "○ waiting for samples",
  "warming up": "◌ warming up",
};

function element(tag, properties = {}, ...inside) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...inside);
  return made;
}

function stateOf(of) {
  return element("span", { className: `state ${of.state.split(" ")[0]}`, textContent: STATES[of.state] });
}

function scoreOf(of) {
  if (of.score == null) return "no score yet";
  const slow = of.slow == null ? "" : `, slow ${number(of.slow)} of 1`;
  return `score ${number(of.score)} of ${number(of.threshold)}${slow}`;
}

// --- which view ---

function show(id) { for (const main of document.querySelectorAll("main")) main.hidden = main.id !== id; }

function trouble(words) {
  $("problem").textContent = words;
  $("problem").hidden = !words;
}

function say(words) { $("said").textContent = words; }

async function turn() {
  const mine = ++turns, over = () => mine !== turns;  // another one has begun, of another view or span
  clearTimeout(timer);
  try {
    if (!document.hidden) await (view.stream == null ? showList(over) : showStream(over));
  } catch (error) {
    if (over()) return;
    if (!(error instanceof Wrong)) trouble(error.message);
    else if (brought) return setTimeout(() => location.reload(), POLL_MS);  // the gateway has started anew
    else return login();
  }
  if (!over()) timer = setTimeout(turn, POLL_MS);
}

function login() {
  show("login");
  trouble("");
  if (token()) $("wrong").textContent = "That is not the token.";
  localStorage.removeItem("edgekd-token");
  $("token").focus();
}

function route() {
  const name = new URLSearchParams(location.hash.slice(1)).get("stream");
  Object.assign(view, { stream: name, sensors: [], changes: -1, curves: null, alarms: null });
  facts = null;
  $("back").hidden = view.stream == null;
  $("title").textContent = view.stream ?? "EdgeKD";
  document.title = view.stream == null ? "EdgeKD" : `${view.stream} – EdgeKD`;
  $("now").replaceChildren();
  say("");
  turn();
}

// --- the list ---

async function showList(over) {
  const found = await read("api/streams", {});
  if (over()) return;
  trouble(found.problem && `History is not kept: ${found.problem}`);
  const focused = document.activeElement?.hash;
  $("cards").replaceChildren(...found.streams.map((of) => element("li", { className: "card" },
    element("a", { href: `#${new URLSearchParams({ stream: of.stream })}`, textContent: of.stream }), " ", stateOf(of),
    element("p", { textContent: scoreOf(of) }),
    element("p", { className: "soft", textContent: [
      `${plural(of.counts.anomaly ?? 0, "alarm")} in 24 h`, of.age_s == null ? "" : `last sample ${lasting(of.age_s)} ago`,
      of.muted_s ? `muted for ${lasting(of.muted_s)}` : "", of.trial,
    ].filter(Boolean).join(" · ") }))));
  [...$("cards").querySelectorAll("a")].find((link) => link.hash === focused)?.focus();
  show("list");
}

// --- one stream ---

async function showStream(over) {
  const told = await read("api/stream", { stream: view.stream });
  if (over()) return;
  const first = facts === null;
  facts = told;
  trouble(facts.problem && `History is not kept: ${facts.problem}`);
  $("now").replaceChildren(stateOf(facts), ` ${scoreOf(facts)}`);
  showFacts();
  if (first) {
    $("sensor").replaceChildren(element("option", { value: "", textContent: "a sensor …" }),
      ...facts.sensors.map((each) => element("option", { value: each.name, textContent: each.name })));
    show("stream");
    if (view.seconds) follow(view.seconds);
  }
  const now = Date.now();
  if (!view.curves || (view.seconds && now - view.loadedAt > RERANK_MS)) return load();
  if (view.changes !== facts.changes) await loadTables().then(redraw);
  if (!over() && view.seconds && now - view.grownAt >= Math.max(POLL_MS, view.curves.size * 500)) await grow();
}

function follow(seconds) {
  view.seconds = seconds;
  for (const button of $("spans").children) button.ariaPressed = String(Number(button.value) === seconds);
  if (seconds) [view.from, view.to] = [end() - seconds, end()];
}

function end() { return (facts?.now ?? Date.now() / 1000) + 1; }

function span() { return { stream: view.stream, from: view.from, to: view.to }; }

async function load() {
  const mine = ++loading;
  const query = new URLSearchParams(span());
  for (const name of view.sensors) query.append("sensor", name);
  const [curves] = await Promise.all([read("api/curves", query), loadTables()]);
  if (mine !== loading) return;
  view.curves = curves;
  view.loadedAt = view.grownAt = Date.now();
  for (const [id, at] of [["from", view.from], ["to", view.to]]) {
    if (document.activeElement !== $(id)) {
      $(id).value = new Date((at - new Date(at * 1000).getTimezoneOffset() * 60) * 1000).toISOString().slice(0, 19);
    }
  }
  draw();
}

async function grow() {
  // what has come since, and the newest interval, which may not have been over
  const have = view.curves, since = have.time.at(-1) ?? view.from;
  const query = new URLSearchParams({ stream: view.stream, from: since, to: end(), size: have.size });
  for (const each of have.sensors) query.append("sensor", each.name);
  const more = await read("api/curves", query);
  view.grownAt = Date.now();
  if (have !== view.curves || more.size !== have.size) return;
  follow(view.seconds);
  const kept = have.time.filter((at) => at < (more.time[0] ?? Infinity)).length;
  const left = have.time.filter((at) => at < view.from - have.size).length;
  const joined = (old, added) => [...old.slice(left, kept), ...added];
  for (const key of ["time", "anomalous", "score", "threshold", "slow"]) have[key] = joined(have[key], more[key]);
  have.sensors.forEach((each, i) => {
    for (const key of ["low", "high", "mean"]) each[key] = joined(each[key], more.sensors[i][key]);
  });
  redraw();
}

async function loadTables() {
  const mine = ++tables;
  const [alarms, events] = await Promise.all([read("api/alarms", span()), read("api/events", span())]);
  if (mine !== tables) return;
  view.changes = facts.changes;
  if (JSON.stringify(alarms) !== JSON.stringify(view.alarms) && !$("alarms").querySelector("input:focus")) {
    view.alarms = alarms;  // else nobody's click goes astray
    showAlarms();
  }
  $("events").replaceChildren(...events.filter((event) => !QUIET_EVENTS.has(event.event)).map((event) => {
    const { at, event: kind, id, time, ...rest } = event;
    const words = Object.entries(rest).map(([key, value]) => `${key} ${JSON.stringify(value)}`).join(", ");
    return element("tr", {}, element("td", { textContent: moment(at) }), element("td", { textContent: kind }),
      element("td", { textContent: words, className: "soft" }));
  }));
}

// --- alarms and marks ---

function showAlarms() {
  const focused = document.activeElement?.dataset?.key;
  $("alarms").replaceChildren(...view.alarms.map(alarmItem));
  if (!view.alarms.length) $("alarms").append(element("li", { className: "soft", textContent: "none" }));
  if (focused) [...$("alarms").querySelectorAll("button")].find((each) => each.dataset.key === focused)?.focus();
}

function alarmItem(alarm) {
  const byHand = alarm.kind === "marked";
  const note = element("input", { value: alarm.note, maxLength: 1000, placeholder: "note" });
  note.setAttribute("aria-label", "Note");
  note.disabled = alarm.mark == null;
  note.onchange = () => mark(alarm, alarm.mark, note.value);
  const says = (value, words) => {
    const button = element("button", { textContent: words, ariaPressed: String(alarm.mark === value) });
    button.dataset.key = `${alarm.id} ${value}`;
    button.onclick = () => mark(alarm, alarm.mark === value ? null : value, note.value);
    return button;
  };
  const lasted = alarm.end == null ? "lasts" : lasting(alarm.end - alarm.start);
  const about = [lasted, alarm.severity == null ? "" : `${number(alarm.severity)} × threshold`,
    alarm.kind === "slow" ? "slow" : "", byHand ? "marked by hand" : "", alarm.sensors.join(", ")];
  const look = element("button", { textContent: "Look" });
  look.dataset.key = `${alarm.id} look`;
  look.onclick = () => lookAt(alarm);
  return element("li", {}, element("strong", { textContent: moment(alarm.start) }),
    element("span", { textContent: ` ${about.filter(Boolean).join(" · ")}` }),
    element("div", { className: "row controls" }, look, says(true, byHand ? "Fault" : "True alarm"),
      says(false, byHand ? "All well" : "False alarm"), note));
}

async function mark(alarm, value, note) {
  await tried(async () => {
    await change("api/mark", { stream: view.stream, alarm: alarm.id, mark: value, note });
    Object.assign(alarm, { mark: value, note });
    if (alarm.kind === "marked" && value == null) view.alarms = view.alarms.filter((each) => each !== alarm);
    showAlarms();
    say(value == null ? "The mark is taken back." : "Kept.");
  });
}

async function tried(what) {
  try {
    await what();
  } catch (error) {
    if (error instanceof Wrong) turn();
    else say(error.message);
  }
}

function lookAt(alarm) {
  const until = alarm.end ?? end(), around = Math.max(60, until - alarm.start);
  const sensors = alarm.sensors.filter((name) => facts.sensors.some((each) => each.name === name));
  zoom(alarm.start - around, until + around, sensors);
}

function zoom(from, to, sensors = []) {
  follow(0);
  Object.assign(view, { from, to, sensors, curves: null });
  turn();
}

// --- curves ---

function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

function ticks(chart, splits, axis, space, step) {
  return splits.map((at, i) => {
    const date = new Date(at * 1000), midnight = date.getHours() + date.getMinutes() + date.getSeconds() === 0;
    if (step >= 86_400 || midnight || i === 0 && step >= 3600) return day.format(date);
    return step < 60 ? clock.format(date) : minute.format(date);
  });
}

function shade(chart, fill, x0, y0, x1, y1) {
  const { left, top, width, height } = chart.bbox;
  const [a, b] = [Math.max(left, Math.min(x0, x1)), Math.min(left + width, Math.max(x0, x1, x0 + 2))];
  const [c, d] = [Math.max(top, Math.min(y0, y1)), Math.min(top + height, Math.max(y0, y1))];
  chart.ctx.fillStyle = fill;
  if (b > a && d > c) chart.ctx.fillRect(a, c, b - a, d - c);
}

function shadeAlarms(chart) {
  const { top, height } = chart.bbox;
  for (const alarm of view.alarms ?? []) {
    const x0 = chart.valToPos(alarm.start, "x", true), x1 = chart.valToPos(alarm.end ?? end(), "x", true);
    shade(chart, color("--alarm"), x0, top, x1, top + height);
  }
}

// Curves with a gap where nothing came for three intervals or turns: a sample, or a hop of them.
function gapped(time, columns, turn_s = facts.model.period_s) {
  const longest = 3 * Math.max(view.curves.size, turn_s);
  const data = [[], ...columns.map(() => [])];
  time.forEach((at, i) => {
    if (i && at - time[i - 1] > longest) [(time[i - 1] + at) / 2, ...columns.map(() => null)]
      .forEach((value, k) => data[k].push(value));
    [at, ...columns.map((column) => column[i])].forEach((value, k) => data[k].push(value));
  });
  return data;
}

function chart(into, height, series, bands, data, range, before) {
  const axis = { stroke: color("--soft"), grid: { stroke: color("--grid"), width: 1 }, ticks: { stroke: color("--grid") } };
  const made = new uPlot({
    width: into.clientWidth, height, bands,
    series: [{ label: "time", value: (_, at) => at == null ? "–" : moment(at) }, ...series],
    scales: { x: { range: () => [view.from, view.to] }, y: { range } },
    axes: [{ ...axis, values: ticks }, { ...axis, size: 64, values: (_, all) => all.map(number) }],
    cursor: { sync: { key: "edgekd" }, drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
    hooks: {
      drawClear: [before, shadeAlarms],
      setSelect: [(self) => {
        const { left, width } = self.select;
        if (width > 4) zoom(self.posToVal(left, "x"), self.posToVal(left + width, "x"));
      }],
    },
  }, data(), into);
  made.edgekdData = data;
  charts.push(made);
}

const value = (_, at) => number(at);

function draw() {
  for (const each of charts) each.destroy();
  charts = [];
  drawScore();
  $("curves").replaceChildren(...view.curves.sensors.map(() => element("div")));
  view.curves.sensors.forEach((each, i) => drawSensor($("curves").children[i], each));
}

function drawScore() {
  const { score, threshold, slow } = view.curves;
  const series = [
    { label: "score", stroke: color("--blue"), width: 1.5, value },
    { label: "threshold", stroke: color("--red"), dash: [6, 4], width: 1.5, value },
  ];
  if (slow.some((each) => each != null)) series.push({ label: "slow (of 1)", stroke: color("--amber"), width: 1.5, value });
  const range = (_, low, high) => {
    const limit = Math.max(...view.curves.threshold.filter((each) => each != null), 0);
    const top = limit > 0 ? Math.max(1.2 * limit, Math.min(high ?? 0, 20 * limit)) : high ?? 1;
    return [Math.min(0, low ?? 0), top > 0 ? 1.05 * top : 1];
  };
  const scored = () => {  // a hop may outlast many intervals: those between two scores hold none
    const curves = view.curves, known = (column) => column.filter((_, i) => curves.score[i] != null);
    const columns = [curves.score, curves.threshold, curves.slow].slice(0, series.length);
    return gapped(known(curves.time), columns.map(known), facts.model.hop * facts.model.period_s);
  };
  chart($("score"), 260, series, [], scored, range, () => {});
  const known = score.filter((each) => each != null);
  const words = known.length ? `Highest ${number(Math.max(...known))}; the threshold is ${number(threshold.at(-1))}.`
    : "No score in this span.";
  $("score").ariaLabel = `Score over time. ${words}`;
  const behind = view.curves.ranked.slice(0, 5).filter((each) => each.share >= 0.01);
  $("score-words").textContent = words + (behind.length ? ` Behind it: ${
    behind.map((each) => `${each.name} (${Math.round(each.share * 100)} %)`).join(", ")}.` : "");
}

function drawSensor(into, of) {
  const spec = facts.sensors.find((each) => each.name === of.name) ?? { low: null, high: null, unit: "" };
  const unit = spec.unit ? ` [${spec.unit}]` : "", box = element("div");
  const normal = spec.low == null ? "" : `normal ${number(spec.low)} to ${number(spec.high)}`;
  const state = spec.missing ? " · missing now" : "";
  into.append(element("h3", { textContent: of.name + unit }),
    element("p", { className: "soft", textContent: normal + state }), box);
  box.role = "img";
  box.ariaLabel = `${of.name} over time, ${normal}`;
  const clear = "transparent";
  const series = [
    { label: "mean", stroke: color("--blue"), width: 1.5, value },
    { label: "highest", stroke: clear, value, points: { show: false } },
    { label: "lowest", stroke: clear, value, points: { show: false } },
  ];
  const range = (_, low, high) => {
    const [a, b] = [Math.min(low ?? spec.low, spec.low ?? low), Math.max(high ?? spec.high, spec.high ?? high)];
    const edge = 0.05 * (b - a || Math.abs(b) || 1);
    return [a - edge, b + edge];
  };
  chart(box, 200, series, [{ series: [2, 3], fill: color("--band") }],
    () => gapped(view.curves.time, [of.mean, of.high, of.low]), range, (self) => {
      if (spec.low == null) return;
      const { left, width } = self.bbox;
      const [y0, y1] = [self.valToPos(spec.high, "y", true), self.valToPos(spec.low, "y", true)];
      shade(self, color("--range"), left, y0, left + width, y1);
    });
}

function redraw() { if (view.curves) for (const each of charts) each.setData(each.edgekdData()); }

// --- facts ---

function showFacts() {
  const { input, queue, model, compared, counts } = facts;
  const near = Math.abs(Math.log(input.rate_hz / input.expected_hz)) < 0.5;
  const rows = [
    ["Input", input.name],
    ["Samples", `${plural(input.samples, "sample")}, last ${facts.age_s == null ? "–" : `${lasting(facts.age_s)} ago`}`],
    ["Rate", input.rate_hz == null ? "–"
      : `${number(input.rate_hz)} Hz; the model was made for ${number(input.expected_hz)}${near ? "" : " – look into it"}`],
    ["Left out", `${plural(input.bad, "bad line")}, ${plural(input.held, "missing value")}`
      + (input.dropped ? `, ${plural(input.dropped, "sample")} dropped` : "")],
    ["Gaps in 24 h", `${counts.input_gap ?? 0} in the samples, ${counts.input_lost ?? 0} times no input`],
    ["Lag", input.lag_s == null ? "" : lasting(input.lag_s)],
    ["Missing now", facts.sensors.filter((each) => each.missing).map((each) => each.name).join(", ")],
    ["Alarms in 24 h", String(counts.anomaly ?? 0)],
    ["Muted", facts.muted_s ? `for ${lasting(facts.muted_s)}` : ""],
    ["Model", `${[model.method, model.preset].filter(Boolean).join(" ")}, ${model.file}, by EdgeKD ${model.written_by}`],
    ["Engine", model.engine],
    ["Gateway", `EdgeKD ${facts.edgekd}`],
    ["On trial", compared ? `${compared.other_file} ${compared.probation ? "was before; this one is on probation"
      : "runs in the shadow"}: new ${plural(compared.alarms_new, "alarm")}, old ${compared.alarms_old}, of ${
      plural(compared.verdicts, "score")}; the other's score ${number(compared.other_score)} of ${
      number(compared.other_threshold)}` : ""],
    ["Not delivered", queue.waiting == null ? "" : plural(queue.waiting, "event") + (queue.problem && `; ${queue.problem}`)],
    ["Delivered", Object.entries(queue.delivered).map(([name, count]) => `${name} ${count}`).join(", ")],
    ["State saved", queue.state_age_s == null ? "not kept" : `${lasting(queue.state_age_s)} ago`],
  ];
  $("facts").replaceChildren(...rows.filter(([, words]) => words).flatMap(([name, words]) => [
    element("dt", { textContent: name }), element("dd", { textContent: words })]));
  $("mute").hidden = !facts.can_mute;
  $("unmute").disabled = !facts.muted_s;
  $("download-words").textContent = facts.record ? "A ZIP file with the record, events and marks."
    : "A ZIP file with events and marks. No samples are recorded: set record in the gateway's file.";
}

// --- what people do ---

for (const [words, seconds] of SPANS) {
  const button = element("button", { textContent: words, value: seconds });
  button.onclick = () => { follow(seconds); Object.assign(view, { curves: null, sensors: [] }); turn(); };
  $("spans").append(button);
}

$("between").onsubmit = (event) => {
  event.preventDefault();
  const [from, to] = ["from", "to"].map((id) => new Date($(id).value).getTime() / 1000);
  if (from < to) zoom(from, to);
  else say("The span ends before it begins.");
};

$("sensor").onchange = () => {
  const name = $("sensor").value, shown = view.curves.sensors.map((each) => each.name);
  if (!name) return;
  view.sensors = [name, ...shown.filter((each) => each !== name)].slice(0, 6);
  $("sensor").value = "";
  tried(load);
};

$("ranked").onclick = () => { view.sensors = []; tried(load); };

$("by-hand").onsubmit = (event) => {
  event.preventDefault();
  tried(async () => {
    const given = { start: view.from, end: view.to, mark: event.submitter.value === "true", note: $("hand-note").value };
    await change("api/mark", { stream: view.stream, ...given });
    $("hand-note").value = "";
    say("Kept.");
    await loadTables();
    redraw();
  });
};

$("mute").onsubmit = (event) => { event.preventDefault(); mute($("mute-for").value); };
$("unmute").onclick = () => mute("0s");

function mute(span) {
  tried(async () => {
    await change("api/mute", { stream: view.stream, span });
    say(span === "0s" ? "Alarms are told again." : `Alarms are held back for ${span}.`);
  });
}

$("download").onclick = () => tried(async () => {
  say("The download is made …");
  const data = await (await ask(`api/download?${new URLSearchParams(span())}`)).blob();
  const when = new Date(view.from * 1000).toISOString().slice(0, 10);
  const link = element("a", { href: URL.createObjectURL(data) });
  link.download = `${view.stream.replace(/[^\w.-]+/g, "_")}-${when}.zip`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  say("Downloaded. Unpack it, then: edgekd distill record.csv --marks marks.csv");
});

$("login").onsubmit = (event) => {
  event.preventDefault();
  localStorage.setItem("edgekd-token", $("token").value.trim());
  $("token").value = $("wrong").textContent = "";
  turn();
};

let resized = 0;
new ResizeObserver(() => {
  clearTimeout(resized);
  resized = setTimeout(() => charts.forEach((each) => {
    each.setSize({ width: each.root.parentElement.clientWidth, height: each.height });
  }), 100);
}).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").onchange = () => { if (view.curves) draw(); };
document.onvisibilitychange = () => { if (!document.hidden) turn(); };
window.onhashchange = route;
route();
