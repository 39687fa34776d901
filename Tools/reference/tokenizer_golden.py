#!/usr/bin/env python3
"""Writes Tests/Fixtures/tokenizer with ids by the Python package `tokenizers`.

    Tools/fetch_test_data.sh && make model
    python3 Tools/reference/tokenizer_golden.py

`mixed.txt` and, for the tokenizers of DeepSeek-V3 and of the default model, its ids; the hash of
the ids of every Unicode scalar between letters; and `small.json`: a tiny trained BPE with many
settings of everything around it, each with the ids of some texts. Needs `tokenizers`.
"""

import json
import pathlib

import tokenizers
from mixed_text import mixed_text
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "Tests/Fixtures/tokenizer"
SOURCES = {
    "deepseek-v3": ROOT / ".cache/tokenizers/deepseek-v3/tokenizer.json",
    "smollm2": ROOT / ".cache/models/smollm2-135m-step3/tokenizer.json",
}
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
BARE = {**GPT2, "use_regex": False}
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = [
    "",
    " ",
    "a",
    "hello world",
    "Hello,  World!\n\n  It's 12345 o'clock…",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 3,
    "e\u0301 \u00e9 \u1100\u1161 \uf900 Å",
    "123 456,789 ½Ⅷ١٢",
    "<s>hello</s> <mark> x<mark>y <word>, <word>s word<word> <pad><pad> <s",
    "日本語テキスト。漢字",
    "नमस्ते दुनिया 👨‍👩‍👧‍👦",
    "\t\x00\x1f\u180e\u2028 \u3000x",
    "DON'T I'LL 'S 's 'ſ K'lin",
    "don't stop  believing\r\n\r\nx",
    "x = [1, 2, 3] # no\n\treturn x\n",
    "\u1c89\ua7cb\U00016d40 \U00011f50\U0001e5f1 \u0897x",
    "camelCaseWord HTTPServer ǅ ʰ",
    " leading",
    "trailing ",
    "llama ball hello",
    "\ufffd\ufffd",
    "<mark>  <mark>",
    "a<pad>b <pad> c",
]
ADDED = [
    {"content": "<s>", "special": True},
    {"content": "</s>", "special": True},
    {"content": "<mark>", "special": False, "lstrip": True, "rstrip": True},
    {"content": "<word>", "special": True, "single_word": True},
    {"content": "<pad>", "special": False, "normalized": True, "rstrip": True},
    {"content": "<s", "special": False},
    {"content": "caf\u00e9", "special": False, "normalized": True},
]


def split(pattern, behavior="Isolated", invert=False):
    kind = pattern if isinstance(pattern, dict) else {"Regex": pattern}
    return {"type": "Split", "pattern": kind, "behavior": behavior, "invert": invert}


def sequence(*steps):
    return {"type": "Sequence", "pretokenizers": list(steps)}


def base():
    """A tokenizer.json trained on a little mixed text, with the added tokens above."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator([mixed_text(7, 60000), "hello world believing " * 50], trainer)
    data = json.loads(model.to_str())
    first = len(data["model"]["vocab"])
    data["added_tokens"] = [
        {
            "id": first + i,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            **token,
        }
        for i, token in enumerate(ADDED)
    ]
    data["decoder"] = GPT2
    data["model"]["merges"] = [
        " ".join(m) if isinstance(m, list) else m for m in data["model"]["merges"]
    ]
    return data


def settings(data):
    first = len(data["model"]["vocab"])
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}},
        ],
        "pair": [],
        "special_tokens": {
            "<s>": {"id": "<s>", "ids": [first], "tokens": ["<s>"]},
            "</s>": {"id": "</s>", "ids": [first + 1], "tokens": ["</s>"]},
        },
    }
    pairs = [m.split(" ") for m in data["model"]["merges"]]
    result = {
        "gpt2": {"pre_tokenizer": GPT2},
        "prefix space": {"pre_tokenizer": {**GPT2, "add_prefix_space": True}},
        "no regex": {"pre_tokenizer": BARE},
        "digits": {"pre_tokenizer": sequence({"type": "Digits", "individual_digits": True}, GPT2)},
        "digit runs": {
            "pre_tokenizer": sequence({"type": "Digits", "individual_digits": False}, GPT2)
        },
        "qwen": {"normalizer": {"type": "NFC"}, "pre_tokenizer": sequence(split(QWEN), BARE)},
        "llama 3": {
            "pre_tokenizer": sequence(split(LLAMA), BARE),
            "post_processor": {"type": "Sequence", "processors": [BARE, template]},
            "model": {"ignore_merges": True},
        },
        "o200k": {
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
            "pre_tokenizer": sequence(split(O200K), BARE),
        },
        "split and prefix": {
            "pre_tokenizer": sequence(split(r"\s+"), {**GPT2, "add_prefix_space": True})
        },
        "pairs": {"pre_tokenizer": GPT2, "model": {"merges": pairs}},
        "template": {"pre_tokenizer": GPT2, "post_processor": template},
        "whole pieces": {"pre_tokenizer": BARE, "model": {"ignore_merges": True}},
        "onig escapes": {
            "pre_tokenizer": sequence(
                split(r"[\h\s]+|\v|^x|o$|[^\S\n]{,3}z|(?<=l)l|\u0301|[\x{3040}-\x{30ff}]+|\R"), BARE
            )
        },
        "scripts": {"pre_tokenizer": sequence(split(r"\p{Han}+|\p{^Latin}+|\P{Katakana}"), BARE)},
    }
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            name = f"{behavior} {invert}"
            result[name] = {
                "pre_tokenizer": sequence(split(r"\s|[aeiou]|\d", behavior, invert), BARE)
            }
            result[name + " text"] = {
                "pre_tokenizer": sequence(split({"String": "l"}, behavior, invert), GPT2)
            }
    return result


def small():
    data = base()
    groups = []
    for name, overrides in settings(data).items():
        variant = {**data, **overrides, "model": {**data["model"], **overrides.get("model", {})}}
        reference = Tokenizer.from_str(json.dumps(variant))
        rows = []
        for text in TEXTS:
            reference.encode_special_tokens = False
            plain = reference.encode(text, add_special_tokens=False).ids
            framed = reference.encode(text, add_special_tokens=True).ids
            decoded = [reference.decode(plain, skip_special_tokens=skip) for skip in (False, True)]
            reference.encode_special_tokens = True
            unspecial = reference.encode(text, add_special_tokens=False).ids
            rows.append(
                {"plain": plain, "framed": framed, "unspecial": unspecial, "decoded": decoded}
            )
        groups.append({"name": name, "overrides": overrides, "rows": rows})
    return {"base": data, "texts": TEXTS, "settings": groups}


def fnv(ids):
    value = 0xCBF29CE484222325
    for number in ids:
        value = ((value ^ number) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = mixed_text(2025, 120000)
    (FOLDER / "mixed.txt").write_bytes(text.encode("utf-8"))
    scalars = "".join(f"a{chr(c)}b {chr(c)}" for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF)
    summary = {"tokenizers": tokenizers.__version__, "every_scalar": {}}
    for name, path in SOURCES.items():
        reference = Tokenizer.from_file(str(path))
        ids = reference.encode(text, add_special_tokens=False).ids
        (FOLDER / f"{name}.ids.json").write_text(json.dumps(ids, separators=(",", ":")) + "\n")
        every = reference.encode(scalars, add_special_tokens=False).ids
        summary["every_scalar"][name] = {"count": len(every), "fnv1a": fnv(every)}
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    content = json.dumps(small(), ensure_ascii=False, separators=(",", ":"))
    (FOLDER / "small.json").write_text(content + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
