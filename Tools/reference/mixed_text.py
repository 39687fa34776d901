"""Deterministic text that is hard on tokenizers: many scripts, code, numbers, control characters.

`mixed_text(seed, size)` gives the same text of about `size` bytes of UTF-8 on every machine: it
uses its own generator of random numbers and no tables of the Python version.
"""

ENGLISH = """the of and to in is that for it was on with as are be this by from at or an have not
they which one you were her all she there would their we him been has when who will more no if out
so said what up its about into than them can only other new some could time these two may then do
first any my now such like our over man me even most made after also did many before must through
back years where much your way well down should because each just those people Mr how too little
State good very make world still own see men work long get here between both life being under never
day same another know while last might us great old year off come since against go came right used
take three don't I'll we've she's they'd it's can't o'clock naïve café résumé Zürich coöperate
""".split()
CHINESE = (
    "的一是不了人我在有他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主"
    "行方又如前所本见经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最间新什打便位因重被走"
    "电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市眼体别处总才场师书比住员九笑性通目华报立马命张活难神数件安表原车白应路期叫死常提"
    "感金何更反合放做系计或司利受光王果亲界及今京务制解各任至清物台象记边共风战干接它许八特觉望直服毛林题建南度统色字请交爱让认算论百吃义科怎元社术结六功指思非流每青"
    "管夫连远资队跟带花快条院变联言权往展该领传近留红治决周保达办运武半候七必城父强步完革深区即求品士转量空甚众技轻程告江语英基派满式李息写呢识极令黄德收脸钱党倒未持"
    "取设始版双历越史商千片容研像找友孩站广改议形委早房音火际则首单据导影失拿网香似斯专石若兵弟谁校读志飞观争究包组造落视济喜离虽坏兴切除"
)
JAPANESE = [
    "こんにちは",
    "世界",
    "です。",
    "ありがとう",
    "ございます",
    "東京都",
    "カタカナ",
    "ラーメン",
    "の",
    "は",
    "を",
    "に",
    "プログラミング",
    "日本語",
    "「",
    "」",
    "、",
    "ー",
    "ヷ",
    "ゟ",
    "ヿ",
    "々",
    "〆切",
    "ﾊﾝｶｸ",
]
ARABIC = [
    "السلام",
    "عليكم",
    "كتاب",
    "اللغة",
    "العربية",
    "مَرْحَبًا",
    "١٢٣٤",
    "في",
    "من",
    "إلى",
    "؟",
    "،",
    "لا",
    "ﷲ",
    "ـــ",
]
HINDI = [
    "नमस्ते",
    "दुनिया",
    "हिन्दी",
    "भाषा",
    "क्षत्रिय",
    "१२३",
    "है",
    "और",
    "में",
    "।",
    "ज़िन्दगी",
    "श्री",
    "र्‍य",
]
OTHER = [
    "Привет",
    "мир",
    "ёлка",
    "Ελληνικά",
    "ς",
    "שלום",
    "עִבְרִית",
    "ไทยภาษา",
    "กำลัง",
    "한국어",
    "안녕하세요",
    "ᄒᆞᆫ",
    "தமிழ்",
    "বাংলা",
    "ქართული",
    "አማርኛ",
    "བོད་",
    "မြန်မာ",
    "ខ្មែរ",
    "ᠮᠣᠩᠭᠣᠯ",
    "İstanbul",
    "ſtraße",
    "Ǆ",
    "ﬁ",
    "K",
    "Å",
    "e\u0301",
    "a\u0300\u0301\u0302",
    "Z\u0351\u036b\u0343",
    "x²",
    "½",
    "Ⅻ",
    "①②",
    "㊀",
    "𝔘𝔫𝔦",
    "𝟙𝟚",
    "🄰",
]
EMOJI = [
    "😀",
    "👍🏽",
    "👨‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🇩🇪🇯🇵",
    "❤️",
    "☺",
    "🧑🏿‍🚀",
    "👩‍❤️‍💋‍👨",
    "1️⃣",
    "🫠",
    "🪿",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "‼️",
    "\u200d",
    "\ufe0f",
]
CODE = [
    "def f(x):\n    return x**2\n",
    "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i];\n}\n",
    "let x = y?.z ?? 0x1F",
    "#include <stdio.h>\n",
    "SELECT * FROM t WHERE a<>'b';",
    "fn main() -> Result<(), E> {}\n",
    "\\frac{a}{b}",
    "https://example.org/a?b=c&d=%20#e",
    '{"key": [1, 2.5e-3, null]}',
    '<div class="a">&nbsp;</div>',
    "$PATH:~/.bin",
    "/* comment */ // x\r\n",
    "a&&b||!c",
    "@property\n",
    "x = lambda: (yield)\n\n\n",
    "```swift\nlet a = 1\n```\n",
    "user@host:~$ ls -la | grep '^d'",
    '"\\u00e9\\n"',
    "[[link]]",
    "--flag=value",
    "__init__",
    "camelCaseName",
    "SCREAMING_CASE",
]
SPACES = [
    " ",
    "  ",
    "   ",
    "\t",
    "\n",
    "\n\n",
    " \n",
    "\n ",
    "\r\n",
    "\r",
    " \t ",
    "        ",
    "\u00a0",
    "\u3000",
    "\u2003\u2003",
    "\u2028",
    "\u2029",
    "\u0085",
    "\u180e",
    "\u200b",
    "\ufeff",
    "\u1680",
    "\u202f",
    "\x0b",
    "\x0c",
    "\x1c",
    "\x1f",
    "\n\n\n   \n",
]
MARKERS = [
    "<think>",
    "</think>",
    "<|EOT|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜begin▁of▁sentence｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁sep｜>",
    "<|im_",
    "<",
    "<｜",
    "<thin",
    "<file_sep>",
]


class Random:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed

    def below(self, bound):
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return (z ^ (z >> 31)) % bound

    def pick(self, items):
        return items[self.below(len(items))]


def english(r):
    words = []
    for _ in range(3 + r.below(25)):
        word = r.pick(ENGLISH)
        if r.below(12) == 0:
            word = word.capitalize() if r.below(3) else word.upper()
        words.append(
            word
            + (r.pick([",", ".", ";", "!", "?", " –", "…", ")", '"']) if r.below(8) == 0 else "")
        )
    return " ".join(words)


def invalid(r):
    """Random bytes as a reader that repairs UTF-8 shows them."""
    data = bytes(
        r.pick([r.below(256), r.below(128), 0xE2, 0x82, 0xF0, 0x9F, 0xED, 0xC3])
        for _ in range(1 + r.below(24))
    )
    return data.decode("utf-8", errors="replace")


def number(r):
    text = str(r.below(10 ** (1 + r.below(15))))
    return r.pick(
        [
            text,
            text + "." + str(r.below(1000)),
            "$" + text,
            text + "%",
            "-" + text,
            "0x" + text,
            text + "e-7",
            "1,234,567",
            "2024-05-17T12:34:56Z",
            "192.0.2.1",
            "+49 (0)30 123456",
            "١٢",
            "１２３４",
            "৪৫৬",
            "Ⅷ²³¼",
        ]
    )


def any_scalar(r):
    """A few scalars from anywhere, assigned or not."""
    out = []
    while len(out) < 1 + r.below(6):
        top = r.pick([0x100, 0x800, 0x3000, 0x10000, 0x20000, 0x110000])
        code = r.below(top)
        if not 0xD800 <= code <= 0xDFFF:
            out.append(chr(code))
    return "".join(out)


def run(r):
    return r.pick(["a", "ab", "-", "=", " ", "\n", "哈", "😀", "0", "é", "x1", "\u0301"]) * (
        1 + r.below(70)
    )


KINDS = [
    (english, 30),
    (
        lambda r: (
            "".join(r.pick(CHINESE) for _ in range(1 + r.below(30)))
            + r.pick(["，", "。", "", "！"])
        ),
        12,
    ),
    (lambda r: "".join(r.pick(JAPANESE) for _ in range(1 + r.below(8))), 6),
    (lambda r: " ".join(r.pick(ARABIC) for _ in range(1 + r.below(8))), 6),
    (lambda r: " ".join(r.pick(HINDI) for _ in range(1 + r.below(8))), 6),
    (lambda r: r.pick(["", " "]).join(r.pick(OTHER) for _ in range(1 + r.below(6))), 8),
    (lambda r: "".join(r.pick(EMOJI) for _ in range(1 + r.below(5))), 5),
    (lambda r: r.pick(CODE), 12),
    (number, 8),
    (lambda r: "".join(r.pick(SPACES) for _ in range(1 + r.below(4))), 8),
    (lambda r: r.pick(MARKERS), 2),
    (lambda r: "".join(chr(r.below(32)) for _ in range(1 + r.below(5))), 2),
    (invalid, 3),
    (any_scalar, 4),
    (run, 2),
]
WHEEL = [kind for kind, weight in KINDS for _ in range(weight)]


def mixed_text(seed, size):
    """About `size` bytes of UTF-8, always the same for the same arguments."""
    r = Random(seed)
    parts, total = [], 0
    while total < size:
        part = r.pick(WHEEL)(r) + r.pick([" ", " ", " ", "\n", "", "", ". "])
        parts.append(part)
        total += len(part.encode("utf-8"))
    return "".join(parts)
