// Submit, poll, play. No framework; everything a user sees is set as text, never as markup.
"use strict";

const at = (id) => document.getElementById(id);
const state = { id: null, timer: null, clip: null };

async function call(path, options = {}) {
  const key = at("key").value.trim();
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) at("key-box").open = true;
  throw new Error(body.error?.message ?? `the service answered ${answer.status}`);
}

function send(path, fields) {
  const headers = { "Content-Type": "application/json" };
  return call(path, { method: "POST", headers, body: JSON.stringify(fields) }).then((answer) => answer.json());
}

function wanted() {
  const entries = [...new FormData(at("create"))].filter(([, value]) => value !== "");
  return Object.fromEntries(entries);
}

function tell(text) {
  at("problem").textContent = text;
}

async function guarded(work) {
  tell("");
  try {
    await work();
  } catch (error) {
    tell(error.message);
  }
}

function show(video) {
  const place = video.queue_position ? `, ${video.queue_position} before it` : "";
  const left = video.eta_seconds === null ? "" : `, about ${Math.ceil(video.eta_seconds)} s to go`;
  const words = { queued: "Waiting", in_progress: "Being made", completed: "Done", cancelled: "Cancelled", failed: "Failed" };
  at("job").hidden = false;
  at("status").textContent = `${words[video.status]}${place}${left}`;
  at("progress").value = video.progress;
  at("cancel").disabled = !["queued", "in_progress"].includes(video.status);
}

function showReceipt({ receipt, plan }) {
  const rows = [["Size", `${plan.size}, ${plan.fps} frames a second`]];
  for (const trade of plan.traded) rows.push(["Given up", `${trade.what}: ${trade.from} to ${trade.to}`]);
  if (receipt) {
    rows.push(["Compute", `${receipt.compute_seconds.toFixed(2)} s on ${receipt.device}`]);
    rows.push(["Charged", `${receipt.charged_usd} USD of ${receipt.quoted_usd} quoted`]);
  }
  const items = rows.flatMap(([name, value]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, text.textContent] = [name, value];
    return [term, text];
  });
  at("receipt").replaceChildren(...items);
}

async function play(id) {
  const file = await (await call(`/v1/videos/${id}/content`)).blob();
  state.clip = URL.createObjectURL(file);
  at("player").src = at("download").href = state.clip;
  at("player").hidden = at("links").hidden = false;
}

async function poll(id) {
  if (id !== state.id) return; // another clip was asked for meanwhile
  const answer = await call(`/v1/videos/${id}`);
  const video = await answer.json();
  show(video);
  if (video.status === "queued" || video.status === "in_progress") {
    const wait = Number(answer.headers.get("openai-poll-after-ms") ?? 1000);
    state.timer = setTimeout(() => guarded(() => poll(id)), wait);
    return;
  }
  if (video.error) tell(video.error.message);
  if (video.status === "completed") await play(id);
  showReceipt(video);
}

function forget() {
  clearTimeout(state.timer);
  if (state.clip) URL.revokeObjectURL(state.clip);
  state.clip = null;
  at("player").hidden = at("links").hidden = true;
  at("player").removeAttribute("src");
  at("receipt").replaceChildren();
}

async function loadPresets() {
  const { data } = await (await call("/v1/presets")).json();
  const options = data.map((preset) => {
    const text = `${preset.id}: ${preset.description}`;
    return new Option(text, preset.id, preset.is_default, preset.is_default);
  });
  at("preset").replaceChildren(...options);
}

at("create").addEventListener("submit", (event) => {
  event.preventDefault();
  guarded(async () => {
    forget();
    const video = await send("/v1/videos", wanted());
    state.id = video.id;
    show(video);
    await poll(video.id);
  });
});

at("quote").addEventListener("click", () => {
  if (!at("create").reportValidity()) return;
  guarded(async () => {
    const quote = await send("/v1/quotes", wanted());
    tell(`At most ${quote.price_usd} USD for ${quote.seconds} s at ${quote.plan.size}.`);
  });
});

at("cancel").addEventListener("click", () =>
  guarded(async () => {
    clearTimeout(state.timer);
    show(await send(`/v1/videos/${state.id}/cancel`, {}));
    await poll(state.id);
  }),
);

at("key").value = sessionStorage.getItem("key") ?? "";
at("key").addEventListener("change", () => {
  sessionStorage.setItem("key", at("key").value);
  guarded(loadPresets);
});
guarded(loadPresets);
