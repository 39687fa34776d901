// What goes to the server, and what comes back.
const numericSettings = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
  "frequency_penalty", "max_tokens", "seed", "thinking_token_budget"];
const headers = () => ({
  "Content-Type": "application/json",
  ...(store.settings.key ? { Authorization: "Bearer " + store.settings.key } : {}),
});
class ServerError extends Error {
  constructor(message, status) { super(message); this.status = status; }
}
/** Asks the server; what it says when it refuses becomes the error. */
async function ask(path, options = {}) {
  let response;
  try { response = await fetch(path, { ...options, headers: headers() }); } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new ServerError("The server does not answer. Is it running?", 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new ServerError(body?.error?.message ?? `The server answered ${response.status}.`, response.status);
}

/** The request for the answer that comes after `turns`; with `continued`, the last one goes on. */
async function requestBody(conversation, turns, continued) {
  const settings = store.settings, messages = [];
  const system = conversation.system ?? settings.system;
  if (system) messages.push({ role: "system", content: system });
  for (const turn of turns) {
    if (turn.role === "assistant" && !turn.content) continue;
    const urls = (await Promise.all((turn.images ?? []).map((id) => pictureStore.get(id)))).filter(Boolean);
    messages.push({ role: turn.role, content: urls.length === 0 ? turn.content
      : [...urls.map((url) => ({ type: "image_url", image_url: { url } })), { type: "text", text: turn.content }] });
  }
  const body = { messages, stream: true, stream_options: { include_usage: true } };
  if (settings.model) body.model = settings.model;
  for (const name of numericSettings)
    if (settings[name] !== undefined && settings[name] !== "" && Number.isFinite(Number(settings[name]))) body[name] = Number(settings[name]);
  if (settings["stop-strings"]) body.stop = settings["stop-strings"].split("\n").filter(Boolean);
  if (settings.thinking === "off") body.reasoning_effort = "none";
  if (settings.schema?.trim())
    body.response_format = { type: "json_schema", json_schema: { name: "answer", schema: JSON.parse(settings.schema) } };
  if (continued) Object.assign(body, { continue_final_message: true, add_generation_prompt: false });
  return body;
}

/** The chunks of a streamed answer. */
async function* chunks(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    pending += value;
    const events = pending.split("\n\n");
    pending = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ") || event === "data: [DONE]") continue;
      const chunk = JSON.parse(event.slice(6));
      if (chunk.error) throw new ServerError(chunk.error.message, chunk.error.code);
      yield chunk;
    }
  }
}

/** Streams an answer into `turn`; `changed` is called whenever it has grown. */
async function receive(body, turn, signal, changed) {
  const started = performance.now();
  let first = 0, count = 0;
  const stats = turn.stats = { };
  const measure = () => {
    const seconds = (performance.now() - (first || started)) / 1000;
    stats.tokens = stats.usage?.completion_tokens ?? count;
    stats.rate = stats.tokens > 1 && seconds > 0 ? (stats.tokens - 1) / seconds : undefined;
    stats.first = first ? (first - started) / 1000 : undefined;
  };
  try {
    const response = await ask("v1/chat/completions", { method: "POST", body: JSON.stringify(body), signal });
    turn.requestID = response.headers.get("x-request-id");
    for await (const chunk of chunks(response)) {
      if (chunk.usage) stats.usage = chunk.usage;
      const choice = chunk.choices?.[0];
      const delta = choice?.delta ?? {};
      const reasoning = delta.reasoning_content ?? delta.reasoning;
      if (reasoning || delta.content) { count += 1; first ||= performance.now(); }
      if (reasoning) { turn.reasoning = (turn.reasoning ?? "") + reasoning; turn.thoughtTokens = (turn.thoughtTokens ?? 0) + 1; }
      if (delta.content) {
        if (turn.reasoning && turn.thoughtSeconds === undefined) turn.thoughtSeconds = (performance.now() - first) / 1000;
        turn.content += delta.content;
      }
      if (choice?.finish_reason) turn.finish = choice.finish_reason;
      measure();
      changed();
    }
  } finally {
    measure();
    const thought = stats.usage?.completion_tokens_details?.reasoning_tokens;
    if (thought) turn.thoughtTokens = thought;
  }
}

const quoted = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
function asCurl(body) {
  const address = new URL("v1/chat/completions", location.href).href;
  const key = store.settings.key ? ' \\\n  -H "Authorization: Bearer $STEP3_API_KEY"' : "";
  return `curl -N ${quoted(address)} \\\n  -H 'Content-Type: application/json'${key} \\\n  -d ${quoted(JSON.stringify(body))}`;
}
function asPython(body) {
  const python = (value) => JSON.stringify(value, null, 2).replace(/("(?:[^"\\]|\\.)*")|\b(true|false|null)\b/g,
    (all, text, word) => text ?? { true: "True", false: "False", null: "None" }[word]);
  const known = ["messages", "model", "stream", "stream_options", "temperature", "top_p", "max_tokens", "seed", "stop",
    "presence_penalty", "frequency_penalty", "response_format", "reasoning_effort"];
  const own = Object.fromEntries(Object.entries(body).filter(([name]) => !known.includes(name)));
  const lines = Object.entries({ model: "", ...body }).filter(([name]) => known.includes(name))
    .map(([name, value]) => `    ${name}=${python(value)},`);
  if (Object.keys(own).length) lines.push(`    extra_body=${python(own)},`);
  return `import os\nfrom openai import OpenAI\n\nclient = OpenAI(\n    base_url=${JSON.stringify(new URL("v1", location.href).href)},\n`
    + `    api_key=os.environ.get("STEP3_API_KEY", "none"),\n)\nfor chunk in client.chat.completions.create(\n${lines.join("\n")}\n):\n`
    + `    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="", flush=True)\n`;
}
