// Submits a job, polls until it ends, saves the clip. Plain fetch: the same lines work in a page.
//   node docs/examples/poll.mjs "a red balloon floats up over green hills" clip.mp4
// VIDEOSVC_URL is where the service is, VIDEOSVC_API_KEY a key of `videosvc keys create` where it asks for one.
import { writeFile } from "node:fs/promises";

const [prompt = "a red balloon floats up over green hills", output = "clip.mp4"] = process.argv.slice(2);
const base = process.env.VIDEOSVC_URL ?? "http://127.0.0.1:8000";
const key = process.env.VIDEOSVC_API_KEY;
const headers = key ? { Authorization: `Bearer ${key}` } : {};

async function ask(path, options = {}) {
  const answer = await fetch(`${base}/v1${path}`, { ...options, headers: { ...headers, ...options.headers } });
  if (!answer.ok) {
    const { error } = await answer.json();
    throw new Error(`${error.code}: ${error.message}`);
  }
  return answer;
}

const created = await ask("/videos", {
  method: "POST",
  headers: { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() },
  body: JSON.stringify({ prompt, seconds: 2, max_cost_usd: 0.01 }),
});
let video = await created.json();

while (video.status === "queued" || video.status === "in_progress") {
  const answer = await ask(`/videos/${video.id}`);
  video = await answer.json();
  console.log(`${video.status} ${video.progress}%`);
  // The service says when it is worth asking again.
  const wait_ms = Number(answer.headers.get("openai-poll-after-ms") ?? 500);
  await new Promise((resume) => setTimeout(resume, wait_ms));
}

if (video.status !== "completed") throw new Error(`${video.status}: ${video.error?.message}`);
await writeFile(output, Buffer.from(await (await ask(`/videos/${video.id}/content`)).arrayBuffer()));
console.log(`${output}: ${video.seconds} s of ${video.size}, charged ${video.receipt.charged_usd} USD`);
