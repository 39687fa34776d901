"""Writes Tests/Fixtures/output-parsing/transcripts.json: whole outputs and what they hold.

An independent one-shot reader of Step3's text protocol, made of regular expressions, for outputs
that are well formed. The engine's incremental parser must agree with it for every split.
Usage: python3 output_parsing_golden.py ../../Tests/Fixtures/output-parsing
"""

import json
import pathlib
import re
import sys

TOOLS = [
    {"name": "get_weather", "parameters": {"type": "object", "properties": {
        "city": {"type": "string"}, "days": {"type": "integer"},
        "exact": {"type": "boolean"}, "limit": {"type": ["number", "null"]}}}},
    {"name": "write_file", "parameters": {"type": "object", "properties": {
        "path": {"type": "string"}, "content": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "options": {"$ref": "#/$defs/options"},
        "mode": {"enum": ["create", "append"]},
        "size": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        "$defs": {"options": {"type": "object"}}}},
    {"name": "now", "parameters": {"type": "object", "properties": {}}},
]
# How the parameters above are typed, said a second time by hand.
TYPES = {
    ("get_weather", "days"): "integer", ("get_weather", "exact"): "boolean",
    ("get_weather", "limit"): "number|null", ("write_file", "tags"): "json",
    ("write_file", "options"): "json", ("write_file", "size"): "integer|null",
}


def typed(tool, name, text):
    kind = TYPES.get((tool, name), "string")
    if "null" in kind and text.lower() == "null":
        return None
    try:
        if "integer" in kind:
            return int(text)
        if "number" in kind:
            return json.loads(text)
        if kind == "boolean" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind == "json":
            return json.loads(text)
    except ValueError:
        pass
    return text


def parse(text, starts_in_reasoning):
    text = text.replace("<｜tool▁", "<｜tool_").replace("calls▁", "calls_").replace("call▁", "call_")
    reasoning, content = None, text
    if starts_in_reasoning or re.match(r"\s*<think>", text):
        body = re.sub(r"^\s*<think>", "", text).lstrip("\r\n")
        match = re.search(r"\s*(</think>[\r\n]*|(?=<｜tool_calls_begin｜>))", body)
        reasoning, content = (body[:match.start()], body[match.end():]) if match else (body, "")
        if match and not match.group(1):
            content = re.sub(r"\s*</think>[\r\n]*", "", content, count=1)
    calls = []

    def take(block):
        for call in re.finditer(
                r'<steptml:invoke name="([^"]+)">(.*?)</steptml:invoke>', block[0], re.S):
            arguments = {}
            for value in re.finditer(
                    r'<steptml:parameter name="([^"]+)">(.*?)</steptml:parameter>', call[2], re.S):
                arguments.setdefault(value[1], typed(call[1], value[1], value[2].strip()))
            calls.append({"name": call[1],
                          "arguments": json.dumps(arguments, ensure_ascii=False)})
        return ""

    content = re.sub(r"\s*<｜tool_calls_begin｜>.*?<｜tool_calls_end｜>\s*", take, content, flags=re.S)
    return {"reasoning": reasoning or None, "content": content or None, "toolCalls": calls}


def call(name, *parameters, gap="\n"):
    inner = gap.join(f'<steptml:parameter name="{k}">{v}</steptml:parameter>'
                     for k, v in parameters)
    inner = gap + inner + gap if inner else ""
    return ("<｜tool_call_begin｜>function<｜tool_sep｜>"
            f'<steptml:invoke name="{name}">{inner}</steptml:invoke><｜tool_call_end｜>')


def block(*calls, gap="\n"):
    return "<｜tool_calls_begin｜>" + gap + gap.join(calls) + gap + "<｜tool_calls_end｜>"


CODE = "if a < b && c <d> {\n\treturn \"</steptml:param>\" // <｜tool_call_\n}"
OUTPUTS = [
    ("plain answer after thinking", "Let me see.\n</think>\n\nThe answer is 4.", True),
    ("no end of thinking", "I am still thinking < about <｜tool", True),
    ("a leading think tag", "<think>\nHm.\n\n</think>\n\nYes.\n", True),
    ("two ends of thinking", "a</think>b</think>c", True),
    ("empty thinking", "\n</think>\nHello", True),
    ("nothing", "", True),
    ("no reasoning", "Hello <world>, 1 < 2 </ thin", False),
    ("think tag without being asked", "<think>why</think>\nbecause", False),
    ("unicode", "考える🤔é</think>é 你好 👩‍👩‍👧 ok", True),
    ("one call", "Need weather.</think>\n" + block(call(
        "get_weather", ("city", "São Paulo"), ("days", "3"), ("exact", "True"))), True),
    ("call without parameters", "</think>" + block(call("now")), True),
    ("two calls, preamble and tail", "x</think>\nI will look. \n" + block(
        call("now"), call("get_weather", ("city", "A\"B\\"), ("limit", "null"))) + "\nDone.", True),
    ("values with markup", "</think>" + block(call(
        "write_file", ("path", "a/b.swift"), ("content", CODE), ("mode", "create"))), True),
    ("structured values", "</think>" + block(call(
        "write_file", ("tags", '["a","b", 1.50]'), ("options", '{"x":{"y":[true,null]},"é":"ü"}'),
        ("size", " 12 ")), gap=""), True),
    ("values of the wrong type stay text", "</think>" + block(call(
        "get_weather", ("days", "three"), ("exact", "maybe"), ("limit", "abc"))), True),
    ("numbers", "</think>" + block(call(
        "get_weather", ("limit", "-1.5e-7"), ("days", "-0012345678901234567890")), call(
        "get_weather", ("limit", "12"), ("days", "+7"))), True),
    ("unknown tool and parameter", "</think>" + block(call("launch", ("when", "5")), call(
        "get_weather", ("planet", "3"))), True),
    ("empty and blank values", "</think>" + block(call(
        "get_weather", ("city", ""), ("days", "  \n "))), True),
    ("a parameter named twice", "</think>" + block(call(
        "get_weather", ("city", "A"), ("city", "B"))), True),
    ("call inside an unclosed think block", "I should call it.\n" + block(
        call("now")) + "\n</think>\nAfter.", True),
    ("lower one eighth blocks", "</think>" + block(call("now"), call(
        "get_weather", ("city", "X"))).replace("tool_", "tool▁").replace(
            "calls_", "calls▁").replace("call_", "call▁"), True),
    ("two blocks", "</think>a" + block(call("now")) + "b\n" + block(call("now")) + "c", True),
    ("wide white space", "</think>\r\n  code \t\n " + block(
        call("get_weather", ("city", "\n  indented\n  text\n"), gap="\n  "), gap="\n\n  ") + " \n",
     True),
    ("call without think block", "Sure.\n" + block(call("now")), False),
]


def main():
    folder = pathlib.Path(sys.argv[1])
    cases = [{"name": name, "text": text, "startsInReasoning": starts,
              "expected": parse(text, starts)} for name, text, starts in OUTPUTS]
    document = {"tools": TOOLS, "cases": cases}
    (folder / "transcripts.json").write_text(
        json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
