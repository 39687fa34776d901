// How turns and the list of conversations look.
const element = (id) => document.getElementById(id);
const scroller = document.querySelector("main");
const isAtEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
const toEnd = () => { scroller.scrollTop = scroller.scrollHeight; };
/** Tells people who cannot see the page. */
function announce(text) { element("announcer").textContent = text; }

function pictures(ids, remove) {
  return ids.map((id, index) => {
    const image = make("img"); image.alt = `picture ${index + 1}`;
    pictureStore.get(id).then((url) => { if (url) image.src = url; else image.alt = "a picture that is no longer kept"; });
    if (!remove) return image;
    const button = action("", "remove-image", "Take this picture away", () => remove(index));
    button.append(image);
    return button;
  });
}

function userNode(turn, index) {
  const node = make("article", "turn user");
  node.dataset.testid = "user"; node.setAttribute("aria-label", "You");
  const text = make("div", "bubble", turn.content);
  if (turn.images?.length) {
    const row = make("div", "pictures"); row.dataset.testid = "images";
    row.append(...pictures(turn.images));
    text.prepend(row);
  }
  const bar = make("div", "meta");
  bar.append(action("Edit", "edit", "Edit and ask again", () => editUser(node, turn, index)));
  const copy = action("Copy", "copy", "Copy this message", () => copyText(turn.content, copy));
  bar.append(copy);
  node.append(text, bar);
  return node;
}
function editUser(node, turn, index) {
  if (running) return;
  const form = make("form", "editing");
  const field = make("textarea"); field.value = turn.content; field.rows = Math.min(12, turn.content.split("\n").length + 1);
  field.dataset.testid = "edit-input"; field.setAttribute("aria-label", "Edited message");
  const send = action("Send", "edit-send", "Ask again from here", null); send.type = "submit";
  form.append(field, send, action("Cancel", "edit-cancel", "Leave it as it was", () => draw()));
  form.onsubmit = (event) => {
    event.preventDefault();
    if (!field.value.trim()) return;
    turn.content = field.value.trim();
    store.current.turns.length = index + 1;
    answer();
  };
  field.onkeydown = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
    if (event.key === "Escape") { event.stopPropagation(); draw(); }
  };
  node.replaceChildren(form);
  field.focus();
}

function statsText(turn) {
  const { stats = {} } = turn, parts = [];
  if (stats.tokens) parts.push(`${stats.tokens} tokens`);
  if (stats.rate) parts.push(`${stats.rate.toFixed(1)} tokens/s`);
  if (stats.first !== undefined) parts.push(`first after ${stats.first.toFixed(2)} s`);
  const cached = stats.usage?.prompt_tokens_details?.cached_tokens;
  if (cached) parts.push(`${cached} of ${stats.usage.prompt_tokens} prompt tokens cached`);
  const shown = stats.usage?.prompt_tokens_details?.image_tokens;
  if (shown) parts.push(`${shown} tokens of pictures`);
  if (turn.finish === "length") parts.push("cut at the token limit");
  return parts.join(" · ");
}
function assistantNode(turn, index) {
  const node = make("article", "turn assistant");
  node.dataset.testid = "assistant"; node.setAttribute("aria-label", "Answer");
  const thought = make("details", "thought"); thought.dataset.testid = "reasoning";
  const summary = make("summary"), thinking = make("div");
  thought.append(summary, thinking);
  const text = make("div", "text"); text.dataset.testid = "answer";
  const meta = make("div", "meta"); meta.dataset.testid = "meta";
  node.append(thought, text, meta);
  summary.onclick = () => { turn.opened = !thought.open; };
  node.update = () => {
    const isThinking = !turn.done && !turn.content;
    thought.hidden = !turn.reasoning;
    if (thinking.textContent.length !== (turn.reasoning ?? "").length) thinking.textContent = turn.reasoning ?? "";
    const size = turn.thoughtTokens ? ` (${turn.thoughtTokens} tokens)` : "";
    summary.textContent = isThinking ? `Thinking…${size}`
      : "Thought" + (turn.thoughtSeconds !== undefined ? ` for ${turn.thoughtSeconds.toFixed(1)} s` : "") + size;
    thought.open = turn.opened ?? isThinking;
    text.classList.toggle("waiting", isThinking && !turn.reasoning);
    text.dataset.waiting = turn.waiting ?? "";
    markdown(text, turn.content ?? "");
    if (!turn.done) { meta.textContent = statsText(turn); return; }
    meta.replaceChildren();
    if (turn.error) {
      const box = make("div", "failure", turn.error); box.dataset.testid = "error"; box.setAttribute("role", "alert");
      if (turn.requestID) box.title = "Request " + turn.requestID;
      meta.append(box);
    }
    meta.append(make("span", "", statsText(turn)));
    const again = () => { if (!running) { store.current.turns.length = index; answer(); } };
    if (turn.error) meta.append(action("Retry", "retry", "Ask again", again));
    else meta.append(action("Regenerate", "regenerate", "Ask again", again));
    const copy = action("Copy", "copy", "Copy this answer", () => copyText(turn.content, copy));
    if (turn.content) meta.append(copy);
    if (turn.content && index === store.current.turns.length - 1)
      meta.append(action("Continue", "continue", "Let the answer go on", () => { if (!running) answer(turn); }));
    meta.append(action("Request", "request", "Show what was sent, copy it as curl or Python", () => showRequest(turn, index)));
  };
  node.update();
  return node;
}

async function showRequest(turn, index) {
  const body = await requestBody(store.current, store.current.turns.slice(0, index), false).catch(() => null);
  if (!body) return;
  const brief = JSON.stringify(body, (key, value) => (key === "url" && value.length > 200 ? value.slice(0, 60) + "…" : value), 2);
  const { content, reasoning, finish, stats } = turn;
  element("raw").textContent = brief + "\n\n" + JSON.stringify({ content, reasoning_content: reasoning, finish_reason: finish, usage: stats?.usage }, null, 2);
  element("copy-curl").onclick = (event) => copyText(asCurl(body), event.target);
  element("copy-python").onclick = (event) => copyText(asPython(body), event.target);
  element("request").showModal();
}

function draw() {
  const log = element("log"), turns = store.current.turns;
  log.replaceChildren(...turns.map((turn, index) => (turn.role === "user" ? userNode : assistantNode)(turn, index)));
  if (turns.length === 0) { const empty = make("p", "", "Ask something."); empty.id = "empty"; log.append(empty); }
  element("send").hidden = running !== null; element("stop").hidden = running === null;
  drawGauge(); drawList();
}
function drawGauge() {
  const usage = store.current.turns.findLast((turn) => turn.stats?.usage)?.stats.usage;
  const gauge = element("gauge");
  gauge.hidden = !usage || !served.context;
  if (gauge.hidden) return;
  const used = usage.prompt_tokens + usage.completion_tokens;
  gauge.firstElementChild.max = served.context; gauge.firstElementChild.value = used;
  gauge.lastElementChild.textContent = `${used.toLocaleString()} of ${served.context.toLocaleString()} tokens`;
}
function drawList() {
  const items = store.found(element("search").value.trim()).map((conversation) => {
    const item = make("li"); item.dataset.testid = "conversation";
    const open = action(conversation.title, "open", conversation.title, () => select(conversation));
    if (conversation === store.current) open.setAttribute("aria-current", "true");
    item.append(open, action("✎", "rename", "Rename this chat", () => rename(item, conversation)),
      action("✕", "delete", "Delete this chat", () => {
        if (confirm(`Delete “${conversation.title}”?`)) { if (conversation === store.current) running?.abort(); store.remove(conversation); draw(); }
      }));
    return item;
  });
  element("list").replaceChildren(...items);
}
function rename(item, conversation) {
  const field = make("input"); field.value = conversation.title; field.dataset.testid = "rename-input";
  field.setAttribute("aria-label", "New title");
  let isOver = false;
  const finish = (keeps) => {
    if (isOver) return;
    isOver = true;
    if (keeps && field.value.trim()) conversation.title = field.value.trim().slice(0, 200);
    store.save(); drawList();
  };
  field.onkeydown = (event) => {
    if (event.key === "Enter") finish(true);
    if (event.key === "Escape") { event.stopPropagation(); finish(false); }
  };
  field.onblur = () => finish(true);
  item.replaceChildren(field);
  field.select();
}
function select(conversation) {
  running?.abort();
  store.current = conversation; store.save();
  document.body.classList.remove("listing");
  draw(); toEnd(); element("input").focus();
}
