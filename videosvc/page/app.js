// Submit, poll, play. No framework; everything a user sees is set as text, never as markup.
"use strict";

const at = (id) => document.getElementById(id);
const usd = (amount) => `${amount.toFixed(9).replace(/\.?0+$/, "")} USD`;
const state = { id: null, timer: null, clip: null, presets: {}, quote: null, order: null };
const AWAY_MS = 3000; // between two tries while the service does not answer

class Away extends Error {}

async function call(path, options = {}) {
  const key = at("key").value.trim();
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch(path, { ...options, headers }).catch(() => {
    throw new Away("the service does not answer");
  });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) at("key-box").open = true;
  throw new (answer.status >= 500 || answer.status === 429 ? Away : Error)(body.error?.message ?? `the service answered ${answer.status}`);
}

function send(path, body, headers = {}) {
  return call(path, { method: "POST", body, headers }).then((answer) => answer.json());
}

function wanted() {
  const form = new FormData(at("create"));
  for (const [name, value] of [...form]) if (value === "" || value.size === 0) form.delete(name);
  return form;
}

// One file is another only if the user chose again, which the form tells by its name, size and time.
function fingerprint(form) {
  return JSON.stringify([...form].map(([name, v]) => [name, v.name ? [v.name, v.size, v.lastModified] : v]));
}

function tell(text) {
  at("problem").textContent = text;
}

async function guarded(work) {
  try {
    await work();
    tell("");
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
  at("progress").hidden = at("cancel").hidden = !["queued", "in_progress"].includes(video.status);
}

function showReceipt({ receipt, plan, warnings }) {
  const rows = [["Size", `${plan.size}, ${plan.fps} frames a second`]];
  for (const trade of plan.traded) rows.push(["Given up", `${trade.what}: ${trade.from} to ${trade.to}`]);
  for (const warning of warnings) rows.push(["Warning", warning]);
  if (receipt) {
    rows.push(["Compute", `${receipt.compute_seconds.toFixed(2)} s${receipt.device ? ` on ${receipt.device}` : ""}`]);
    rows.push(["Charged", `${usd(receipt.charged_usd)} of ${usd(receipt.quoted_usd)} quoted`]);
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
  const again = (wait) => {
    state.timer = setTimeout(() => guarded(() => poll(id)), wait);
  };
  try {
    const answer = await call(`/v1/videos/${id}`);
    const video = await answer.json();
    if (id !== state.id) return;
    show(video);
    if (video.status === "queued" || video.status === "in_progress") {
      again(Number(answer.headers.get("openai-poll-after-ms") ?? 1000));
      return;
    }
    if (video.status === "completed") await play(id);
    showReceipt(video);
    if (video.status === "failed") throw new Error(video.error.message);
  } catch (error) {
    if (error instanceof Away) again(AWAY_MS);
    throw error;
  }
}

function follow(id) {
  state.id = id;
  sessionStorage.setItem("video", id); // a reload goes on with it
  return poll(id);
}

function forget() {
  clearTimeout(state.timer);
  state.id = null;
  sessionStorage.removeItem("video");
  if (state.clip) URL.revokeObjectURL(state.clip);
  state.clip = null;
  at("job").hidden = at("player").hidden = at("links").hidden = true;
  at("player").removeAttribute("src");
  at("receipt").replaceChildren();
  at("price").textContent = "";
  state.quote = null;
}

function describePreset() {
  at("about-preset").textContent = state.presets[at("preset").value] ?? "";
}

async function loadPresets() {
  const { data } = await (await call("/v1/presets")).json();
  state.presets = Object.fromEntries(data.map((preset) => [preset.id, preset.description]));
  const options = data.map(({ id, is_default }) => new Option(id, id, is_default, is_default));
  at("preset").replaceChildren(...options);
  describePreset();
}

// Its key stays until an answer has come: pressed again after a lost one, it is still one clip.
function newOrder(form) {
  const [of, { quote }] = [fingerprint(form), state];
  const key = [...crypto.getRandomValues(new Uint32Array(4))].join("-");
  return { of, key, quoteId: quote?.of === of && Date.now() < quote.until ? quote.id : null };
}

at("create").addEventListener("submit", (event) => {
  event.preventDefault();
  const [button] = event.target.getElementsByTagName("button");
  button.disabled = true; // a second click would make, and charge for, a second clip
  guarded(async () => {
    const form = wanted();
    const { order } = state.order?.of === fingerprint(form) ? state : { order: newOrder(form) };
    if (order.quoteId) form.append("quote_id", order.quoteId);
    forget();
    state.order = order;
    const headers = { "Idempotency-Key": order.key };
    const video = await send("/v1/videos", form, headers).finally(() => (button.disabled = false));
    state.order = null;
    show(video);
    await follow(video.id);
  });
});

at("quote").addEventListener("click", () => {
  if (!at("create").reportValidity()) return;
  guarded(async () => {
    at("price").textContent = "";
    const form = wanted();
    const quote = await send("/v1/quotes", form);
    const until = 1000 * quote.expires_at - 5000; // by this machine's clock
    state.quote = { id: quote.id, of: fingerprint(form), until };
    at("price").textContent = `At most ${usd(quote.price_usd)} for ${quote.seconds} s at ${quote.plan.size}.`;
  });
});

at("cancel").addEventListener("click", () =>
  guarded(async () => {
    clearTimeout(state.timer);
    show(await send(`/v1/videos/${state.id}/cancel`));
    await poll(state.id);
  }),
);

at("preset").addEventListener("change", describePreset);

at("key").value = sessionStorage.getItem("key") ?? "";
at("key").addEventListener("change", () => {
  sessionStorage.setItem("key", at("key").value);
  state.quote = null; // another tenant's
  guarded(loadPresets);
});
guarded(loadPresets);
const last = sessionStorage.getItem("video");
if (last) follow(last).catch(forget); // it may be gone by now
