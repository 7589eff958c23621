// Sensors over time.

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
