#!/usr/bin/env python3
"""Writes the tokenizer of a GGUF file in the form of a Hugging Face checkpoint.

    python3 Tools/reference/gguf_tokenizer.py model.gguf DIRECTORY

Writes tokenizer.json, tokenizer_config.json (with the chat template) and nothing else. Only the
byte-level BPE tokenizers whose pre-tokenizer the file names and this script knows are accepted.
Needs no packages. It serves as test data and as an independent check of `step3 convert`.
"""

import json
import pathlib
import struct
import sys

SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
PRE_TOKENIZERS = {
    "smollm": [{"type": "Digits", "individual_digits": True}, {**BYTE_LEVEL, "use_regex": True}],
    "gpt-2": [{**BYTE_LEVEL, "use_regex": True}],
}
CONTROL = 3


def metadata(path):
    """The key-value pairs at the head of a GGUF file."""
    with open(path, "rb") as file:

        def number(code):
            size = struct.calcsize("<" + code)
            return struct.unpack("<" + code, file.read(size))[0]

        def string():
            return file.read(number("Q")).decode("utf-8")

        def value(kind):
            if kind == 8:
                return string()
            if kind == 9:
                inner, count = number("I"), number("Q")
                return [value(inner) for _ in range(count)]
            return number(SCALARS[kind])

        assert file.read(4) == b"GGUF", f"{path} is no GGUF file"
        assert number("I") in (2, 3), "unknown version"
        number("Q")
        return {string(): value(number("I")) for _ in range(number("Q"))}


def tokenizer(data):
    name = data["tokenizer.ggml.pre"]
    assert data["tokenizer.ggml.model"] == "gpt2" and name in PRE_TOKENIZERS, name
    tokens, kinds = data["tokenizer.ggml.tokens"], data["tokenizer.ggml.token_type"]
    added = [
        {
            "id": i,
            "content": t,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, t in enumerate(tokens)
        if kinds[i] == CONTROL
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS[name]},
        "post_processor": None,
        "decoder": {**BYTE_LEVEL, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": data["tokenizer.ggml.merges"],
        },
    }


def configuration(data):
    tokens = data["tokenizer.ggml.tokens"]
    result = {
        "bos_token": tokens[data["tokenizer.ggml.bos_token_id"]],
        "eos_token": tokens[data["tokenizer.ggml.eos_token_id"]],
    }
    if "tokenizer.chat_template" in data:
        result["chat_template"] = data["tokenizer.chat_template"]
    return result


def main():
    source, target = sys.argv[1], pathlib.Path(sys.argv[2])
    data = metadata(source)
    target.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("tokenizer", tokenizer(data)),
        ("tokenizer_config", configuration(data)),
    ):
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (target / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
