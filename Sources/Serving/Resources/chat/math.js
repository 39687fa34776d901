// TeX's everyday part as MathML, which browsers draw by themselves. What is not known stays text.
const mathNode = (tag, ...children) => {
  const node = document.createElementNS("http://www.w3.org/1998/Math/MathML", tag);
  node.append(...children);
  return node;
};
const letters = (words) => Object.fromEntries(words.trim().split(/\s+/).map((word) => word.split("=")));
const mathLetters = letters(`alpha=α beta=β gamma=γ delta=δ epsilon=ϵ varepsilon=ε zeta=ζ eta=η theta=θ
  vartheta=ϑ iota=ι kappa=κ lambda=λ mu=μ nu=ν xi=ξ pi=π varpi=ϖ rho=ρ varrho=ϱ sigma=σ varsigma=ς tau=τ
  upsilon=υ phi=ϕ varphi=φ chi=χ psi=ψ omega=ω Gamma=Γ Delta=Δ Theta=Θ Lambda=Λ Xi=Ξ Pi=Π Sigma=Σ
  Upsilon=Υ Phi=Φ Psi=Ψ Omega=Ω infty=∞ partial=∂ nabla=∇ ell=ℓ hbar=ℏ Re=ℜ Im=ℑ aleph=ℵ emptyset=∅
  varnothing=∅ imath=ı jmath=ȷ wp=℘ angle=∠ triangle=△ top=⊤ bot=⊥ forall=∀ exists=∃ nexists=∄
  degree=° prime=′ dots=… ldots=… cdots=⋯ vdots=⋮ ddots=⋱ square=□ blacksquare=■ checkmark=✓`);
const mathSigns = letters(`times=× div=÷ pm=± mp=∓ cdot=⋅ ast=∗ star=⋆ circ=∘ bullet=∙ oplus=⊕ otimes=⊗
  odot=⊙ cup=∪ cap=∩ setminus=∖ wedge=∧ land=∧ vee=∨ lor=∨ neg=¬ lnot=¬ le=≤ leq=≤ leqslant=⩽ ge=≥
  geq=≥ geqslant=⩾ ne=≠ neq=≠ approx=≈ equiv=≡ sim=∼ simeq=≃ cong=≅ propto=∝ ll=≪ gg=≫ subset=⊂
  subseteq=⊆ supset=⊃ supseteq=⊇ in=∈ notin=∉ ni=∋ to=→ rightarrow=→ leftarrow=← gets=← mapsto=↦
  leftrightarrow=↔ Rightarrow=⇒ Leftarrow=⇐ Leftrightarrow=⇔ implies=⟹ iff=⟺ longrightarrow=⟶
  uparrow=↑ downarrow=↓ mid=∣ nmid=∤ parallel=∥ perp=⊥ colon=: therefore=∴ because=∵ lbrace={ rbrace=}
  langle=⟨ rangle=⟩ lfloor=⌊ rfloor=⌋ lceil=⌈ rceil=⌉ lvert=| rvert=| vert=| lVert=‖ rVert=‖ Vert=‖
  models=⊨ vdash=⊢ prec=≺ succ=≻ dagger=† backslash=\\ asymp=≍`);
const mathBig = letters(`sum=∑ prod=∏ coprod=∐ int=∫ iint=∬ iiint=∭ oint=∮ bigcup=⋃ bigcap=⋂ bigoplus=⨁
  bigotimes=⨂ bigvee=⋁ bigwedge=⋀`);
const mathAccents = letters("hat=^ widehat=^ bar=¯ vec=→ dot=˙ ddot=¨ tilde=~ widetilde=~ check=ˇ breve=˘");
const mathNames = new Set(("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp det dim "
  + "ker deg gcd hom arg Pr lim max min sup inf limsup liminf argmax argmin mod").split(" "));
const mathLimits = new Set("lim max min sup inf limsup liminf argmax argmin det gcd Pr".split(" "));
const mathSpaces = { ",": ".17em", ":": ".22em", ";": ".28em", " ": ".3em", "!": "-.17em", quad: "1em", qquad: "2em" };
const mathFonts = { mathbb: [0x1d538, 0x1d552], mathbf: [0x1d400, 0x1d41a], boldsymbol: [0x1d468, 0x1d482],
  mathcal: [0x1d49c, 0x1d4b6], mathscr: [0x1d49c, 0x1d4b6], mathfrak: [0x1d504, 0x1d51e] };
// Letters that Unicode had before the mathematical alphabets came.
const mathOld = { mathbb: letters("C=ℂ H=ℍ N=ℕ P=ℙ Q=ℚ R=ℝ Z=ℤ"), mathfrak: letters("C=ℭ H=ℌ I=ℑ R=ℜ Z=ℨ"),
  mathcal: letters("B=ℬ E=ℰ F=ℱ H=ℋ I=ℐ L=ℒ M=ℳ R=ℛ e=ℯ g=ℊ o=ℴ") };
mathOld.mathscr = mathOld.mathcal;

class TexReader {
  constructor(source, isDisplay) {
    this.tokens = source.match(/\\[a-zA-Z]+|\\[\s\S]|\d+(?:\.\d+)?|\s+|[\s\S]/gu) ?? [];
    this.at = 0; this.depth = 0; this.isDisplay = isDisplay;
  }
  peek() { while (/^\s+$/.test(this.tokens[this.at] ?? "")) this.at += 1; return this.tokens[this.at]; }
  next() { this.peek(); return this.tokens[this.at++]; }
  /** The text of the group that comes, as it is written. */
  raw() {
    if (this.peek() !== "{") return this.next() ?? "";
    let text = "", depth = 0;
    for (;;) {
      const token = this.tokens[this.at++];
      if (token === undefined) return text;
      if (token === "{") { if (depth++ > 0) text += token; }
      else if (token === "}") { if (--depth === 0) return text; text += token; }
      else text += token;
    }
  }
  row(...ends) {
    const nodes = [];
    for (let token = this.peek(); token !== undefined && !ends.includes(token); token = this.peek())
      nodes.push(this.scripted());
    return nodes.length === 1 ? nodes[0] : mathNode("mrow", ...nodes);
  }
  argument() {
    const token = this.peek();
    if (token === undefined || token === "}") return mathNode("mrow");
    return this.atom();
  }
  scripted() {
    const base = this.atom();
    let below, above;
    for (;;) {
      const token = this.peek();
      if (token === "_" && !below) { this.next(); below = this.argument(); }
      else if (token === "^" && !above) { this.next(); above = this.argument(); }
      else if (token === "'" && !above) {
        let primes = "";
        while (this.peek() === "'") { this.next(); primes += "′"; }
        above = mathNode("mo", primes);
      } else if (token === "\\limits") { this.next(); base.hasLimits = true; }
      else if (token === "\\nolimits") { this.next(); base.hasLimits = false; }
      else break;
    }
    const tags = base.hasLimits && this.isDisplay ? ["munder", "mover", "munderover"] : ["msub", "msup", "msubsup"];
    if (below && above) return mathNode(tags[2], base, below, above);
    if (below) return mathNode(tags[0], base, below);
    return above ? mathNode(tags[1], base, above) : base;
  }
  atom() {
    if (this.depth > 60) return mathNode("mtext", this.next() ?? "");
    this.depth += 1;
    const node = this.read(this.next() ?? "");
    this.depth -= 1;
    return node;
  }
  read(token) {
    if (token === "{") { const inner = this.row("}"); this.next(); return mathNode("mrow", inner); }
    if (token.startsWith("\\") && token.length > 1) return this.command(token.slice(1));
    if (/^\d/.test(token)) return mathNode("mn", token);
    if (/^\p{L}$/u.test(token)) return mathNode("mi", token);
    if (token === "~" || token === "&") return mathNode("mspace");
    const sign = mathNode("mo", { "-": "−", "*": "∗" }[token] ?? token);
    if (/[()[\]|/]/.test(token)) sign.setAttribute("stretchy", "false");
    return sign;
  }
  command(name) {
    if (/^[dt]?frac$/.test(name)) return mathNode("mfrac", this.argument(), this.argument());
    if (/^[dt]?binom$/.test(name)) {
      const pair = mathNode("mfrac", this.argument(), this.argument());
      pair.setAttribute("linethickness", "0");
      return mathNode("mrow", mathNode("mo", "("), pair, mathNode("mo", ")"));
    }
    if (name === "sqrt") {
      if (this.peek() !== "[") return mathNode("msqrt", this.argument());
      this.next(); const degree = this.row("]"); this.next();
      return mathNode("mroot", this.argument(), degree);
    }
    if (name === "left") return this.fenced();
    if (/^(big|Big|bigg|Bigg)[lrm]?$/.test(name) || name === "middle" || name === "right")
      return mathNode("mo", this.delimiter());
    if (name === "begin") return this.environment(this.raw());
    if (/^(text|textrm|textbf|textit|textsf|texttt|mbox)$/.test(name)) return mathNode("mtext", this.raw());
    if (name === "mathrm" || name === "operatorname") {
      const node = mathNode("mi", this.raw()); node.setAttribute("mathvariant", "normal"); return node;
    }
    if (/^(mathit|mathsf|mathtt|displaystyle|textstyle|scriptstyle|limits|nolimits)$/.test(name))
      return name.startsWith("math") ? this.argument() : mathNode("mrow");
    if (mathFonts[name]) return mathNode("mi", styled(this.raw(), name));
    if (mathAccents[name]) {
      const node = mathNode("mover", this.argument(), mathNode("mo", mathAccents[name]));
      node.setAttribute("accent", "true"); return node;
    }
    if (name === "overline") return mathNode("mover", this.argument(), mathNode("mo", "‾"));
    if (name === "underline") return mathNode("munder", this.argument(), mathNode("mo", "_"));
    if (name === "overbrace") return limited(mathNode("mover", this.argument(), mathNode("mo", "⏞")));
    if (name === "underbrace") return limited(mathNode("munder", this.argument(), mathNode("mo", "⏟")));
    if (name === "boxed" || name === "phantom") return mathNode(name === "boxed" ? "mrow" : "mphantom", this.argument());
    if (name === "stackrel" || name === "overset") { const above = this.argument(); return mathNode("mover", this.argument(), above); }
    if (name === "underset") { const below = this.argument(); return mathNode("munder", this.argument(), below); }
    if (name === "pmod") return mathNode("mrow", mathNode("mo", "("), mathNode("mi", "mod"), this.argument(), mathNode("mo", ")"));
    if (name === "not") return mathNode("mo", (this.next() ?? "").replace(/^\\(\w+)$/, (_, sign) => mathSigns[sign] ?? sign) + "\u0338");
    if (name === "tag") return mathNode("mtext", ` (${this.raw()})`);
    if (mathBig[name]) { const sign = mathNode("mo", mathBig[name]); if (!/int$/.test(name)) limited(sign); return sign; }
    if (mathNames.has(name)) { const node = mathNode("mi", name); if (mathLimits.has(name)) limited(node); return node; }
    if (mathLetters[name]) return mathNode("mi", mathLetters[name]);
    if (mathSigns[name]) return mathNode("mo", mathSigns[name]);
    if (mathSpaces[name]) { const space = mathNode("mspace"); space.setAttribute("width", mathSpaces[name]); return space; }
    if (name === "\\") return mathNode("mspace");
    if (/^[{}$%&#_|]$/.test(name)) return mathNode("mo", name === "|" ? "‖" : name);
    return mathNode("mtext", "\\" + name);
  }
  delimiter() {
    const token = this.next() ?? "";
    if (token === ".") return "";
    if (!token.startsWith("\\")) return { "<": "⟨", ">": "⟩" }[token] ?? token;
    const name = token.slice(1);
    return mathSigns[name] ?? (name === "|" ? "‖" : name);
  }
  fenced() {
    const open = mathNode("mo", this.delimiter());
    const parts = [];
    for (let token = this.peek(); token !== undefined && token !== "\\right"; token = this.peek()) parts.push(this.scripted());
    this.next();
    return mathNode("mrow", open, ...parts, mathNode("mo", this.delimiter()));
  }
  environment(name) {
    const kind = name.replace("*", "");
    if (kind === "array") this.raw();
    const table = mathNode("mtable");
    let row = mathNode("mtr");
    for (;;) {
      row.append(mathNode("mtd", this.row("&", "\\\\", "\\end")));
      const token = this.next();
      if (token === "&") continue;
      if (row.textContent !== "" || row.childElementCount > 1) table.append(row);
      row = mathNode("mtr");
      if (token !== "\\\\") break;
    }
    this.raw();
    if (/align|gather|split|equation/.test(kind)) { table.setAttribute("class", "aligned"); table.setAttribute("displaystyle", "true"); }
    const fences = { pmatrix: "()", bmatrix: "[]", Bmatrix: "{}", vmatrix: "||", Vmatrix: "‖‖", cases: "{ " }[kind];
    if (!fences) return table;
    if (kind === "cases") table.setAttribute("class", "cases");
    return mathNode("mrow", mathNode("mo", fences[0]), table, mathNode("mo", fences[1].trim()));
  }
}
function limited(node) { node.hasLimits = true; return node; }
function styled(text, font) {
  const [upper, lower] = mathFonts[font];
  return [...text].map((letter) => {
    if (mathOld[font]?.[letter]) return mathOld[font][letter];
    const code = letter.codePointAt(0);
    if (code >= 65 && code <= 90) return String.fromCodePoint(upper + code - 65);
    if (code >= 97 && code <= 122) return String.fromCodePoint(lower + code - 97);
    return letter;
  }).join("");
}
function mathematics(source, isDisplay) {
  const reader = new TexReader(source, isDisplay);
  const node = mathNode("math", reader.row());
  while (reader.peek() !== undefined) { reader.next(); node.append(reader.row()); }
  if (isDisplay) node.setAttribute("display", "block");
  node.dataset.testid = "math";
  node.setAttribute("aria-label", source);
  return node;
}
