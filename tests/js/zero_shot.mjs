// transformers.js's own zero-shot pipeline on a folder, offline, as a JavaScript program uses it.
//
//     echo '{"folder": "/models/student", "dtype": "q8", "labels": ["a", "b"], "texts": ["..."]}' | node zero_shot.mjs
//
// Prints {"version": ..., "answers": [{"labels": [...], "scores": [...]}, ...]} as JSON.

import { readFileSync } from "node:fs";
import path from "node:path";
import { env, pipeline } from "@huggingface/transformers";

const { folder, dtype, labels, texts } = JSON.parse(readFileSync(0, "utf8"));
env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = path.dirname(folder) + path.sep;

const classify = await pipeline("zero-shot-classification", path.basename(folder), { dtype, device: "cpu" });
const answers = [];
for (const text of texts) {
  const { labels: ranked, scores } = await classify(text, labels);
  answers.push({ labels: ranked, scores });
}
console.log(JSON.stringify({ version: env.version, answers }));
