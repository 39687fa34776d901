// What happens when: keys, buttons, the state of the server.
let running = null;
let pending = [];
const served = { context: 0, models: [] };

/** Asks for an answer to what stands there, or for more of `continued`. */
async function answer(continued) {
  const conversation = store.current;
  const turn = continued ?? { role: "assistant", content: "" };
  Object.assign(turn, { done: false, error: undefined, finish: undefined });
  if (!continued) conversation.turns.push(turn);
  const control = running = new AbortController();
  store.touch(); draw(); toEnd();
  const node = element("log").lastChild;
  let isDrawn = true, spoken = turn.content.length;
  const redraw = () => {
    if (!isDrawn) return;
    isDrawn = false;
    requestAnimationFrame(() => {
      isDrawn = true;
      if (!node.isConnected) return;
      const follows = isAtEnd();
      node.update();
      if (follows) toEnd();
      // Whole sentences only, or a screen reader would stumble from word to word.
      const end = turn.content.search(/[.!?:\n](?=[^.!?:\n]*$)/);
      if (end > spoken) { announce(turn.content.slice(spoken, end + 1)); spoken = end + 1; }
    });
  };
  const queue = watchQueue(turn, redraw);
  try {
    const body = await requestBody(conversation, conversation.turns.slice(0, continued ? undefined : -1), Boolean(continued));
    await receive(body, turn, control.signal, redraw);
  } catch (failure) {
    if (failure.name === "AbortError") turn.finish = "stopped";
    else turn.error = failure instanceof SyntaxError ? "The JSON schema in Settings is not JSON." : failure.message;
    if (failure.status === 401) askKey();
    if (failure.status === 503) watch();
  }
  clearInterval(queue);
  turn.done = true; turn.waiting = undefined;
  if (running === control) running = null;
  if (turn.finish === "stopped" && !turn.content && !turn.reasoning)
    conversation.turns = conversation.turns.filter((each) => each !== turn);
  if (store.conversations.includes(conversation)) store.save();
  if (conversation === store.current) {
    const follows = isAtEnd();
    draw();
    if (follows) toEnd();
  }
  if (document.activeElement === document.body) element("input").focus();
}
/** While nothing comes, tells how many others the server has. */
function watchQueue(turn, redraw) {
  return setInterval(async () => {
    if (turn.content || turn.reasoning) return;
    const load = await ask("load").then((response) => response.json()).catch(() => null);
    if (!load || turn.content || turn.done) return;
    turn.waiting = load.waiting_requests > 0 ? `${load.waiting_requests} waiting, ${load.running_requests} running` : "reading the prompt";
    redraw();
  }, 2000);
}

element("form").onsubmit = (event) => {
  event.preventDefault();
  const text = element("input").value.trim();
  if ((!text && pending.length === 0) || running) return;
  store.current.turns.push({ role: "user", content: text, images: pending.length ? pending : undefined });
  element("input").value = ""; pending = []; drawPending();
  answer();
};
element("input").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); element("form").requestSubmit(); }
};
element("stop").onclick = () => running?.abort();
element("new").onclick = () => {
  running?.abort();
  store.current = newConversation(); store.save();
  document.body.classList.remove("listing");
  draw(); element("input").focus();
};
element("chats").onclick = () => {
  const isOpen = document.body.classList.toggle("listing");
  element("chats").setAttribute("aria-expanded", isOpen);
  if (isOpen) element("search").focus();
};
element("search").oninput = drawList;
element("export").onclick = async () => {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([await store.exported(store.conversations)], { type: "application/json" }));
  link.download = "step3-chats.json"; link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
};
element("import").onclick = () => element("import-file").click();
element("import-file").onchange = async () => {
  try {
    for (const file of element("import-file").files) await store.imported(await file.text());
    draw();
  } catch (failure) { alert("Nothing was imported: " + failure.message); }
  element("import-file").value = "";
};

function drawPending() {
  element("pending").replaceChildren(...pictures(pending, (index) => { pending.splice(index, 1); drawPending(); }));
}
function attach(files) {
  const images = [...files].filter((file) => file.type.startsWith("image/"));
  for (const file of images) {
    const reader = new FileReader();
    reader.onload = async () => { pending.push(await pictureStore.put(reader.result)); drawPending(); element("input").focus(); };
    reader.readAsDataURL(file);
  }
  return images.length > 0;
}
element("attach").onclick = () => element("file").click();
element("file").onchange = () => { attach(element("file").files); element("file").value = ""; };
document.onpaste = (event) => { if (attach(event.clipboardData?.files ?? [])) event.preventDefault(); };
document.ondragover = (event) => { event.preventDefault(); document.body.classList.add("dropping"); };
document.ondragleave = (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); };
document.ondrop = (event) => {
  event.preventDefault(); document.body.classList.remove("dropping");
  attach(event.dataTransfer?.files ?? []);
};

// Settings: what is left empty is the server's own.
const fields = [...numericSettings, "stop-strings", "schema", "thinking", "model", "key", "theme"];
function showSettings() {
  for (const name of fields) element(name).value = store.settings[name] ?? "";
  element("system").value = store.current.system ?? store.settings.system ?? "";
  element("panel").showModal();
}
element("settings").onclick = showSettings;
for (const name of fields) {
  element(name).onchange = () => {
    store.settings[name] = element(name).value; store.save();
    if (name === "theme") applyTheme();
    if (name === "key") models();
    if (name === "model") showModel();
    if (name === "schema") checkSchema();
  };
}
element("system").onchange = () => {
  store.current.system = element("system").value; store.settings.system = element("system").value; store.save();
};
element("reset").onclick = () => {
  for (const name of [...numericSettings, "stop-strings", "schema", "thinking"]) { delete store.settings[name]; element(name).value = ""; }
  store.save(); checkSchema();
};
function checkSchema() {
  let complaint = "";
  if (element("schema").value.trim()) try { JSON.parse(element("schema").value); } catch (failure) { complaint = failure.message; }
  element("schema-error").textContent = complaint;
  element("schema").setAttribute("aria-invalid", complaint !== "");
}
function applyTheme() { document.documentElement.style.colorScheme = store.settings.theme || "light dark"; }

function askKey() {
  element("key-input").value = store.settings.key ?? "";
  if (!element("key-panel").open) element("key-panel").showModal();
}
element("key-form").onsubmit = () => {
  store.settings.key = element("key-input").value.trim(); store.save();
  models().then((isOpen) => {
    const last = store.current.turns.at(-1);
    if (isOpen && last?.error && !running) { store.current.turns.pop(); answer(); }
  });
};

document.onkeydown = (event) => {
  if (event.key === "Escape" && running && !document.querySelector("dialog[open]")) running.abort();
  if (event.ctrlKey && event.shiftKey && event.key.toLowerCase() === "o") { event.preventDefault(); element("new").click(); }
  if (event.key === "/" && document.activeElement === document.body) { event.preventDefault(); element("input").focus(); }
};

function showModel() {
  const model = served.models.find((each) => each.id === store.settings.model) ?? served.models[0];
  served.context = model?.max_model_len ?? 0;
  element("status").textContent = model
    ? model.id + (served.context ? ` · ${served.context.toLocaleString()} tokens of context` : "") : "No model is served.";
  element("attach").hidden = model?.takes_images === false;
  for (const [name, value] of Object.entries(model?.default_sampling ?? {}))
    if (numericSettings.includes(name)) element(name).placeholder = String(value);
  drawGauge();
}
/** Reads which models there are; whether the server let us. */
async function models() {
  try {
    served.models = (await (await ask("v1/models")).json()).data;
  } catch (failure) {
    element("status").textContent = failure.message;
    if (failure.status === 401) askKey();
    return false;
  }
  element("model").replaceChildren(...served.models.map((model) => new Option(model.id, model.id)));
  if (!served.models.some((model) => model.id === store.settings.model)) delete store.settings.model;
  showModel();
  return true;
}
let isWatching = false;
/** Shows how far the model is loaded, until it is. */
async function watch() {
  if (isWatching) return;
  isWatching = true;
  for (;;) {
    const response = await fetch("ready").catch(() => null);
    if (response?.ok) break;
    const body = await response?.json().catch(() => null);
    if (body?.status === "loading") {
      const bar = make("progress"); bar.value = body.progress ?? 0; bar.setAttribute("aria-label", "Loading");
      element("status").replaceChildren("Loading ", bar, ` ${Math.round((body.progress ?? 0) * 100)} %`
        + (body.eta_s ? `, about ${Math.ceil(body.eta_s)} s to go` : ""));
    } else element("status").textContent = body ? `The server is ${body.status}.` : "The server does not answer.";
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  isWatching = false;
  await models();
}
store.load(); applyTheme(); draw(); toEnd(); watch();
