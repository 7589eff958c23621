// What a setting tells, counted as edgekd/evaluation/settings.py does it.

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
