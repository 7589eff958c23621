// The list of alarms.

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
