// Markdown as nodes. What the model writes never becomes HTML.
const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
/** A button with a name for people, for screen readers and for tests. */
function action(label, testID, title, run) {
  const button = make("button", "", label);
  button.type = "button"; button.title = title; button.dataset.testid = testID;
  if (!/\w/.test(label)) button.setAttribute("aria-label", title);
  button.onclick = run;
  return button;
}
async function copyText(text, button) {
  const label = button.textContent;
  try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch {
    // Pages without TLS have no clipboard; the old way still works.
    const area = make("textarea", "unseen"); area.value = text; document.body.append(area);
    area.select(); button.textContent = document.execCommand("copy") ? "Copied" : "Not copied"; area.remove();
  }
  setTimeout(() => { button.textContent = label; }, 1500);
}

// The parts of a line, in the order in which they are looked for; lengths are bounded, so that text
// that opens and never closes costs no more than it is long.
const inlineParts = [
  ["code", /(?<!`)(`+)(?!`)([\s\S]{1,4000}?)(?<!`)\1(?!`)/y],
  ["display", /\$\$([\s\S]{1,4000}?)\$\$|\\\[([\s\S]{1,4000}?)\\\]/y],
  ["math", /\\\(([\s\S]{1,4000}?)\\\)|\$(?![\s$])((?:[^$\\\n]|\\.){1,1000}?)(?<!\s)\$(?!\d)/y],
  ["escape", /\\([\\`*_{}#+\-.!|~$<>\[\]()])/y],
  ["strong", /\*\*(?!\s)([\s\S]{1,2000}?)(?<!\s)\*\*(?!\*)|(?<!\w)__(?!\s)([\s\S]{1,2000}?)(?<!\s)__(?!\w)/y],
  ["del", /~~(?!\s)([\s\S]{1,2000}?)(?<!\s)~~/y],
  ["em", /\*(?![\s*])([^*]{1,2000}?)(?<!\s)\*|(?<!\w)_(?![\s_])([^_]{1,2000}?)(?<!\s)_(?!\w)/y],
  ["link", /!?\[([^\]\n]{0,500})\]\((https?:[^)\s]{1,2000})(?:\s+"[^"\n]{0,300}")?\)/y],
  ["bare", /https?:\/\/[^\s<>()"'`]{1,2000}(?<![.,:;!?*_])/y],
];
function inline(parent, text, depth = 0) {
  let plain = "";
  const flush = () => { if (plain) parent.append(plain); plain = ""; };
  scanning: for (let at = 0; at < text.length;) {
    if (depth < 8 && /[\\`*_~$!\[h]/.test(text[at])) {
      for (const [kind, pattern] of inlineParts) {
        pattern.lastIndex = at;
        const match = pattern.exec(text);
        if (!match) continue;
        flush();
        parent.append(part(kind, match, depth));
        at += match[0].length;
        continue scanning;
      }
    }
    plain += text[at++];
  }
  flush();
  return parent;
}
function part(kind, match, depth) {
  switch (kind) {
    case "code": return make("code", "", match[2].replace(/^ ([\s\S]*[^ ][\s\S]*) $/, "$1"));
    case "display": case "math": return mathematics(match[1] ?? match[2], kind === "display");
    case "escape": return match[1];
    case "link": return link(match[2], inline(make("a"), match[1] || match[2], 8));
    case "bare": return link(match[0], make("a", "", match[0]));
    default: return inline(make(kind), match[1] ?? match[2], depth + 1);
  }
}
function link(address, node) {
  node.href = address; node.rel = "noopener noreferrer"; node.target = "_blank";
  return node;
}

const keywords = new Set(("abstract and as async await bool boolean break case catch char class const continue def del "
  + "default delete do double elif else enum except export extends extension false final finally float fn for foreach "
  + "from func function global go guard if impl implements import in init int interface is lambda let long loop match "
  + "mod module mut namespace new nil none None not null nullptr of or override package pass private protocol pub public "
  + "raise return select self Self short static str string struct super switch template then this throw throws trait "
  + "True False true try type typedef typeof undefined union unless unsafe use using var virtual void where while with "
  + "yield SELECT FROM WHERE JOIN INSERT UPDATE DELETE CREATE TABLE GROUP ORDER BY AND OR NOT NULL AS ON LIMIT").split(" "));
const codeParts = /(\/\*[\s\S]*?(?:\*\/|$)|\/\/[^\n]*|(?<=^|\s)#[^\n]*|(?<=^|\s)--\s[^\n]*)|("""[\s\S]*?(?:"""|$)|"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`?)|\b(0x[\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\b|\b([A-Za-z_]\w*)\b/g;
function highlighted(code, text) {
  if (text.length > 60000) { code.textContent = text; return; }
  let last = 0;
  for (const match of text.matchAll(codeParts)) {
    const kind = match[1] ? "c" : match[2] ? "s" : match[3] ? "n" : keywords.has(match[4]) ? "k" : "";
    if (!kind) continue;
    code.append(text.slice(last, match.index), make("span", kind, match[0]));
    last = match.index + match[0].length;
  }
  code.append(text.slice(last));
}
function codeBlock(lines, language) {
  const block = make("div", "block");
  const text = lines.join("\n");
  const pre = make("pre"), code = make("code");
  pre.tabIndex = 0; block.dataset.testid = "code";
  if (/^(text|txt|plain|output)$/i.test(language)) code.textContent = text; else highlighted(code, text);
  pre.append(code);
  const bar = make("div", "bar");
  const copy = action("Copy", "copy-code", "Copy this code", () => copyText(text, copy));
  bar.append(make("span", "", language), copy);
  block.append(bar, pre);
  return block;
}

const fence = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const listItem = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)/;
const ruler = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const displayMath = /^\s*(\$\$|\\\[)/;
const isBlockStart = (line) => fence.test(line) || /^ {0,3}(#{1,6}\s|>)/.test(line) || listItem.test(line)
  || displayMath.test(line) || /^ {0,3}([-*_])(\s*\1){2,}\s*$/.test(line);

/** Cuts a text into blocks: what they are, and their lines. */
function cut(lines) {
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    const line = lines[at], start = at;
    const add = (kind, more = {}) => blocks.push({ kind, lines: lines.slice(start, at), ...more });
    const opened = fence.exec(line);
    if (line.trim() === "") { at += 1; } else if (opened) {
      at += 1;
      while (at < lines.length && !lines[at].trim().startsWith(opened[1])) at += 1;
      const body = lines.slice(start + 1, at);
      at += 1; add("code", { body, language: opened[2] });
    } else if (displayMath.test(line)) {
      const end = line.trim().startsWith("$$") ? "$$" : "\\]";
      let isOver = line.trim().slice(2).includes(end);
      at += 1;
      while (!isOver && at < lines.length) isOver = lines[at++].includes(end);
      // Only what stands alone is a block; a line that goes on after it is a paragraph.
      add(isOver && lines[at - 1].trimEnd().endsWith(end) ? "math" : "paragraph");
    } else if (/^ {0,3}#{1,6}\s/.test(line)) { at += 1; add("heading"); } else if (/^ {0,3}([-*_])(\s*\1){2,}\s*$/.test(line)) { at += 1; add("rule"); } else if (/^ {0,3}>/.test(line)) {
      while (at < lines.length && /^ {0,3}>/.test(lines[at])) at += 1;
      add("quote");
    } else if (listItem.test(line)) {
      const first = listItem.exec(line);
      // A list of the other kind is another list.
      const isOther = (next) => { const item = listItem.exec(next); return item && item[1].length <= first[1].length && /\d/.test(item[2]) !== /\d/.test(first[2]); };
      const inside = (next) => !isOther(next) && (listItem.test(next) || /^\s+\S/.test(next));
      at += 1;
      while (at < lines.length && (inside(lines[at]) || (lines[at].trim() !== "" ? !isBlockStart(lines[at]) : inside(lines[at + 1] ?? "")))) at += 1;
      add("list");
    } else if (line.includes("|") && ruler.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) {
      at += 2;
      while (at < lines.length && lines[at].includes("|")) at += 1;
      add("table");
    } else {
      at += 1;
      while (at < lines.length && lines[at].trim() !== "" && !isBlockStart(lines[at])
        && !(lines[at].includes("|") && ruler.test(lines[at + 1] ?? ""))) at += 1;
      add("paragraph");
    }
  }
  return blocks;
}
function list(lines, depth) {
  const first = listItem.exec(lines[0]);
  const node = make(/\d/.test(first[2]) ? "ol" : "ul");
  if (/\d/.test(first[2]) && parseInt(first[2]) !== 1) node.start = parseInt(first[2]);
  const items = [];
  for (const line of lines) {
    const match = listItem.exec(line);
    if (match && match[1].length <= first[1].length + 1) items.push([line.slice(match[0].length)]);
    else items.at(-1).push(line.replace(new RegExp(`^\\s{0,${first[1].length + first[2].length + 1}}`), ""));
  }
  for (const item of items) {
    const entry = make("li");
    const task = /^\[([ xX])\]\s/.exec(item[0]);
    if (task) {
      const box = make("input"); box.type = "checkbox"; box.disabled = true; box.checked = task[1] !== " ";
      entry.append(box, " "); item[0] = item[0].slice(4);
    }
    const parts = cut(item);
    for (const [index, each] of parts.entries()) {
      if (index === 0 && each.kind === "paragraph") inline(entry, each.lines.join("\n"));
      else entry.append(rendered(each, depth + 1));
    }
    node.append(entry);
  }
  return node;
}
function table(lines) {
  const cells = (line) => line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
  const sides = cells(lines[1]).map((cell) => (/^:.*:$/.test(cell) ? "center" : cell.endsWith(":") ? "right" : ""));
  const node = make("table"), head = make("thead"), body = make("tbody");
  for (const [index, line] of lines.entries()) {
    if (index === 1) continue;
    const row = make("tr");
    for (const [column, text] of cells(line).slice(0, sides.length).entries())
      row.append(inline(make(index === 0 ? "th" : "td", sides[column]), text));
    (index === 0 ? head : body).append(row);
  }
  node.append(head, body);
  const frame = make("div", "scroll"); frame.append(node);
  return frame;
}
function rendered(block, depth = 0) {
  const text = block.lines.join("\n");
  if (depth > 8) return make("p", "", text);
  switch (block.kind) {
    case "code": return codeBlock(block.body, block.language);
    case "math": return mathematics(text.trim().replace(/^(\$\$|\\\[)|(\$\$|\\\])$/g, ""), true);
    case "heading": return inline(make("h" + Math.min(6, 2 + /#+/.exec(text)[0].length)), text.replace(/^\s*#+\s+|\s+#+\s*$/g, ""));
    case "rule": return make("hr");
    case "list": return list(block.lines, depth);
    case "table": return table(block.lines);
    case "quote": {
      const quote = make("blockquote");
      quote.append(...cut(block.lines.map((line) => line.replace(/^ {0,3}> ?/, ""))).map((each) => rendered(each, depth + 1)));
      return quote;
    }
    default: return inline(make("p"), text);
  }
}
/** Shows a text that may grow: blocks that are the same as before are left alone. */
function markdown(target, source) {
  const blocks = cut(source.split("\n"));
  for (const [index, block] of blocks.entries()) {
    const key = block.kind + "\n" + block.lines.join("\n");
    const old = target.children[index];
    if (old?.source === key) continue;
    const node = rendered(block);
    node.source = key;
    if (old) old.replaceWith(node); else target.append(node);
  }
  while (target.children.length > blocks.length) target.lastElementChild.remove();
}
