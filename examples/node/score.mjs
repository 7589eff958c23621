// Score a CSV recording, without any EdgeKD code:
//
//     node score.mjs student.onnx recording.csv
//
// prints the score lines of `edgekd-run --model student.onnx --csv recording.csv --scores`.

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { Detector } from "./detector.mjs";

if (process.argv.length !== 4) {
  console.error("usage: node score.mjs MODEL.onnx RECORDING.csv");
  process.exit(2);
}
process.stdout.on("error", () => process.exit()); // nobody reads the scores any more
const [model, recording] = process.argv.slice(2);
const detector = await Detector.load(model);
const number = (field) => (field === "" ? NaN : Number(field)); // what is no number is NaN: missing
// A float32 as the shortest number that reads back as the same float32; nine digits always do.
const shortest = (x) => [6, 7, 8, 9].map((digits) => +x.toPrecision(digits)).find((y) => Math.fround(y) === x);

let header = null;
let columns = [];
for await (const line of createInterface({ input: createReadStream(recording), crlfDelay: Infinity })) {
  const fields = line.split(",").map((field) => field.trim());
  if (header === null) {
    header = fields;
    columns = detector.manifest.sensors.map(({ name }) => header.indexOf(name));
    if (columns.includes(-1)) throw new Error(`${recording}, line 1: the header lacks a column of the model's sensors`);
    continue;
  }
  if (fields.length !== header.length) continue; // torn or empty
  const verdict = await detector.update(columns.map((column) => number(fields[column])));
  if (verdict === null) continue;
  const { sample, score, isAnomaly } = verdict;
  console.log(JSON.stringify({ event: "score", sample, score: shortest(score), anomaly: isAnomaly }));
}
