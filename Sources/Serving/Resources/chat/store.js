// Conversations and settings, kept in this browser alone: texts in localStorage, pictures, for which
// it is too small, in IndexedDB.
const pictureStore = {
  cache: new Map(),
  open() {
    return this.opened ??= new Promise((resolve) => {
      const request = indexedDB.open("step3", 1);
      request.onupgradeneeded = () => request.result.createObjectStore("pictures");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => resolve(null);  // a private window: pictures last as long as the page
    });
  },
  async put(url) {
    const id = crypto.getRandomValues(new Uint32Array(3)).join("-");
    this.cache.set(id, url);
    (await this.open())?.transaction("pictures", "readwrite").objectStore("pictures").put(url, id);
    return id;
  },
  async get(id) {
    if (this.cache.has(id)) return this.cache.get(id);
    const database = await this.open();
    if (!database) return null;
    const url = await new Promise((resolve) => {
      const request = database.transaction("pictures").objectStore("pictures").get(id);
      request.onsuccess = () => resolve(request.result ?? null);
      request.onerror = () => resolve(null);
    });
    if (url) this.cache.set(id, url);
    return url;
  },
  async remove(ids) {
    for (const id of ids) this.cache.delete(id);
    const pictures = (await this.open())?.transaction("pictures", "readwrite").objectStore("pictures");
    for (const id of ids) pictures?.delete(id);
  },
};

const newConversation = () => ({
  id: crypto.getRandomValues(new Uint32Array(2)).join("-"), title: "", turns: [], updated: Date.now(),
});
const store = {
  settings: {}, conversations: [], current: null,
  load() {
    const read = (key) => { try { return JSON.parse(localStorage.getItem(key)); } catch { return null; } };
    this.settings = read("step3.settings") ?? {};
    this.conversations = (read("step3.conversations") ?? []).filter(isConversation);
    for (const conversation of this.conversations)
      for (const turn of conversation.turns) turn.done = true;
    this.current = this.conversations.find((each) => each.id === read("step3.current")) ?? newConversation();
  },
  save() {
    try {
      localStorage.setItem("step3.settings", JSON.stringify(this.settings));
      localStorage.setItem("step3.conversations", JSON.stringify(this.conversations));
      localStorage.setItem("step3.current", JSON.stringify(this.current.id));
      return true;
    } catch { return false; }
  },
  /** Keeps the current conversation, newest first. */
  touch() {
    const conversation = this.current;
    conversation.updated = Date.now();
    conversation.title ||= (conversation.turns[0]?.content ?? "").replace(/\s+/g, " ").slice(0, 60) || "Pictures";
    this.conversations = [conversation, ...this.conversations.filter((each) => each !== conversation)];
    if (!this.save()) announce("This browser's storage is full: export and delete old chats.");
  },
  remove(conversation) {
    this.conversations = this.conversations.filter((each) => each !== conversation);
    pictureStore.remove(conversation.turns.flatMap((turn) => turn.images ?? []));
    if (this.current === conversation) this.current = this.conversations[0] ?? newConversation();
    this.save();
  },
  found(words) {
    const wanted = words.toLowerCase();
    return this.conversations.filter((each) => !wanted || each.title.toLowerCase().includes(wanted)
      || each.turns.some((turn) => turn.content?.toLowerCase().includes(wanted)));
  },
  /** Conversations as a document of their own, pictures inside. */
  async exported(conversations) {
    const copies = structuredClone(conversations);
    for (const turn of copies.flatMap((each) => each.turns))
      if (turn.images) turn.images = (await Promise.all(turn.images.map((id) => pictureStore.get(id)))).filter(Boolean);
    return JSON.stringify({ format: "step3-conversations", version: 1, conversations: copies }, null, 1);
  },
  /** Takes in what was exported; how many conversations came. */
  async imported(text) {
    const document = JSON.parse(text);
    const list = Array.isArray(document) ? document : document.conversations;
    if (!Array.isArray(list) || !list.every(isConversation)) throw new Error("This file holds no conversations of this page.");
    for (const each of list) {
      const conversation = { ...newConversation(), title: String(each.title ?? ""), system: each.system && String(each.system) };
      for (const turn of each.turns)
        conversation.turns.push({ ...turn, role: turn.role, content: String(turn.content ?? ""), done: true,
          images: turn.images && await Promise.all(turn.images.filter((url) => /^data:image\//.test(url)).map((url) => pictureStore.put(url))) });
      this.conversations.unshift(conversation);
      this.current = conversation;
    }
    this.save();
    return list.length;
  },
};
function isConversation(value) {
  return Array.isArray(value?.turns) && value.turns.every((turn) => turn?.role === "user" || turn?.role === "assistant");
}
