// The detector in a file of `edgekd export`, run with nothing but ONNX Runtime. Scaling, network, memory and score are
// in the graph; what is left to do outside of it is to fill a hop, hold missing values, and hand the state back.

import { readFile } from "node:fs/promises";

// Where there is no native binary (32-bit ARM), `npm install onnxruntime-web` brings the engine as WebAssembly.
const ort = await import("onnxruntime-node").catch((reason) =>
  import("onnxruntime-web").catch(() => {
    throw reason;
  }),
);

const LARGEST_SCORE = 3.4028234663852886e38; // of float32
const ARRAYS = { float32: Float32Array, int32: Int32Array, int64: BigInt64Array };

/** One stream through one model. Samples of another stream need another detector: the state is in here. */
export class Detector {
  static async load(path) {
    const file = await readFile(path);
    const options = { intraOpNumThreads: 1, interOpNumThreads: 1 }; // a step is too small to share out
    return new Detector(readManifest(file), await ort.InferenceSession.create(file, options));
  }

  constructor(manifest, session) {
    this.manifest = manifest;
    this.session = session;
    this.maxHold = Math.floor(manifest.max_hold_s / manifest.period_s + 1e-9); // samples
    this.seen = 0; // samples since the cold start
    this.last = manifest.sensors.map((sensor) => sensor.fill); // the newest good value of each sensor
    this.missing = manifest.sensors.map(() => this.maxHold + 1); // samples since then; at first: too many
    this.hop = new Float32Array(manifest.hop * manifest.sensors.length); // (hop, n)
    this.valid = new Float32Array(manifest.sensors.length).fill(1);
    this.state = {};
    for (const { name, shape, dtype } of manifest.state) {
      const size = shape.reduce((product, length) => product * length, 1);
      this.state[name] = new ort.Tensor(dtype, new ARRAYS[dtype](size), shape); // zeros are the cold state
    }
  }

  /**
   * One sample: n numbers in the order of `manifest.sensors`, raw units, NaN where a value is missing.
   * A verdict at the end of a hop, else null; none in warm-up. Await it before you give the next sample.
   */
  async update(sample) {
    const { hop, sensors, warmup_samples, threshold } = this.manifest;
    const row = this.seen % hop;
    if (row === 0) this.valid.fill(1);
    for (let i = 0; i < sensors.length; i++) this.#put(row * sensors.length + i, i, sample[i]);
    this.seen++;
    if (row + 1 < hop) return null;

    const outputs = await this.session.run({
      samples: new ort.Tensor("float32", this.hop, [hop, sensors.length]),
      valid: new ort.Tensor("float32", this.valid, [sensors.length]),
      ...this.state,
    });
    let score = outputs.score.data[0];
    if (Number.isFinite(score)) {
      for (const name in this.state) this.state[name] = outputs[`next_${name}`];
    } else {
      score = LARGEST_SCORE; // values that the graph cannot digest are an anomaly, and must not poison the state
    }
    if (this.seen < warmup_samples) return null;
    const contributions = outputs.contributions.data; // each sensor's part of the score
    return { sample: this.seen - 1, score, isAnomaly: score > threshold.value, contributions };
  }

  /** A missing value is the sensor's last good one, until it has been held for too long: then the graph is told. */
  #put(at, sensor, value) {
    this.hop[at] = value;
    if (Number.isFinite(this.hop[at])) {
      this.last[sensor] = this.hop[at];
      this.missing[sensor] = 0;
    } else {
      this.hop[at] = this.last[sensor];
      this.missing[sensor]++;
      if (this.missing[sensor] > this.maxHold) this.valid[sensor] = 0;
    }
  }
}

/** The manifest in an ONNX file: in ModelProto.metadata_props (field 14), pairs of key (1) and value (2). */
function readManifest(file) {
  for (const [number, bytes] of protobufFields(file)) {
    if (number !== 14) continue;
    const pair = Object.fromEntries(protobufFields(bytes));
    if (`${pair[1]}` !== "edgekd") continue;
    const manifest = JSON.parse(`${pair[2]}`);
    if (manifest.format === 1) return manifest;
    throw new Error(`manifest format ${manifest.format} is newer than this program reads (1)`);
  }
  throw new Error("there is no manifest in this file; write it with edgekd export");
}

/** The fields of a protobuf message that are bytes, as [number, bytes]; numbers are stepped over. */
function* protobufFields(message) {
  let at = 0;
  const varint = () => {
    for (let value = 0, scale = 1; ; scale *= 128) {
      const byte = message[at++] ?? 0; // past the end of a damaged file
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    const size = varint(); // or the number itself
    if (tag % 8 === 2) yield [Math.floor(tag / 8), message.subarray(at, (at += size))];
    else if (tag % 8 !== 0) throw new Error(`this is no ONNX file, or it is damaged at byte ${at}`);
  }
}
