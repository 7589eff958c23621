// Puts all of it onto the page.

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
