#!/usr/bin/env python3
"""Writes Tests/Fixtures/chat-templates/{cases,expressions}.json with jinja2's own results.

The environment is the one that transformers makes for chat templates (utils/chat_template_utils.py
of version 5): an immutable sandbox, trim_blocks, lstrip_blocks, loop controls, the generation tag,
tojson without HTML escapes, raise_exception and strftime_now. Needs `jinja2`.

    python3 Tools/reference/chat_template_golden.py
"""

import datetime
import json
import pathlib

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from chat_template_expressions import EXPRESSIONS

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "Tests/Fixtures/chat-templates"
NOW = datetime.datetime(2025, 3, 7, 15, 4, 9)


class Generation(jinja2.ext.Extension):
    """transformers' AssistantTracker without its bookkeeping."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_support")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _support(self, caller):
        return caller()


def environment():
    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    result = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    result.filters["tojson"] = tojson
    result.globals["raise_exception"] = raise_exception
    result.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return result


SYSTEM = {"role": "system", "content": "Antworte kurz.\nUse ‘quotes’ & <tags>."}
USER = {"role": "user", "content": "  What is 2+2? 😀\n"}
ANSWER = {"role": "assistant", "content": "<think>\nadd\n</think>\n\n It is 4. "}
AGAIN = {"role": "user", "content": "And 3+3?"}
REASONED = {"role": "assistant", "content": "6", "reasoning_content": "\nthree twice\n"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "abcdefghi",
            "type": "function",
            "function": {
                "name": "get_weather",
                "arguments": {"city": 'Köln "am" Rhein', "days": 3, "exact": True},
            },
        }
    ],
}
CALL_TEXT = {
    "role": "assistant",
    "content": "Let me look.",
    "tool_calls": [
        {
            "id": "abcdefghi",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "SF"}'},
        },
        {
            "id": "123456789",
            "type": "function",
            "function": {"name": "get_time", "arguments": "{}"},
        },
    ],
}
RESULT = {
    "role": "tool",
    "tool_call_id": "abcdefghi",
    "name": "get_weather",
    "content": '{"temp": 12.5}',
}
SECOND = {"role": "tool", "tool_call_id": "123456789", "name": "get_time", "content": "12:00"}
PARTS = {
    "role": "user",
    "content": [
        {"type": "text", "text": " look at "},
        {"type": "image"},
        {"type": "text", "text": "this"},
    ],
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather of a city – now.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": " The city's name "},
                    "days": {
                        "type": ["integer", "null"],
                        "description": "How many",
                        "minimum": 1,
                        "maximum": 1e16,
                    },
                    "exact": {"type": "boolean", "description": "?"},
                },
                "required": ["city"],
            },
            "return": {"type": "object"},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "get_time",
            "description": "The time <now>",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]
CONVERSATIONS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [SYSTEM, USER, ANSWER, AGAIN],
    "reasoned": [USER, ANSWER, AGAIN, REASONED],
    "call": [SYSTEM, USER, CALL, RESULT],
    "calls": [USER, CALL_TEXT, RESULT, SECOND, {"role": "assistant", "content": "Fine."}, AGAIN],
    "parts": [PARTS],
    "two users": [USER, AGAIN],
    "two systems": [SYSTEM, SYSTEM, USER],
    "tool description": [SYSTEM, {"role": "tool_description", "content": "raw tools"}, USER],
    "unknown role": [{"role": "narrator", "content": "…"}],
    "empty content": [{"role": "user", "content": ""}],
    "mapping": [{"role": "user", "content": {"value": "v", "text": "t"}}],
    "no messages": [],
}
VARIANTS = [
    {},
    {"add_generation_prompt": True},
    {"tools": TOOLS, "add_generation_prompt": True},
    {
        "add_generation_prompt": True,
        "extra": {"enable_thinking": False, "date_string": "1 May 2030"},
    },
    {
        "tools": TOOLS,
        "extra": {
            "tools_in_user_message": False,
            "builtin_tools": ["code_interpreter", "get_weather"],
        },
    },
]


def outcome(template, variables):
    try:
        return {"expected": template.render(**variables)}
    except jinja2.exceptions.TemplateError as error:
        kind = "raised" if type(error) is jinja2.exceptions.TemplateError else "failed"
        return {"error": kind, "message": str(error)}
    except Exception as error:  # what Python itself refuses: types, indices, overflow
        return {"error": "failed", "message": f"{type(error).__name__}: {error}"}


def main():
    jinja = environment()
    cases = []
    for path in sorted(FOLDER.glob("*.jinja")):
        template = jinja.from_string(path.read_text(encoding="utf-8"))
        for name, messages in CONVERSATIONS.items():
            for index, variant in enumerate(VARIANTS):
                variables = {
                    "messages": messages,
                    "tools": variant.get("tools"),
                    "documents": None,
                    "add_generation_prompt": variant.get("add_generation_prompt", False),
                    "bos_token": "<s>",
                    "eos_token": "</s>",
                    **variant.get("extra", {}),
                }
                cases.append(
                    {
                        "template": path.name,
                        "conversation": name,
                        "variant": index,
                        **outcome(template, variables),
                    }
                )
    document = {
        "now": [NOW.year, NOW.month, NOW.day, NOW.hour, NOW.minute, NOW.second],
        "conversations": CONVERSATIONS,
        "variants": VARIANTS,
        "cases": cases,
    }
    text = json.dumps(document, ensure_ascii=False, indent=0)
    (FOLDER / "cases.json").write_text(text + "\n", encoding="utf-8")

    results = []
    for source in EXPRESSIONS:
        variables = {
            "messages": [SYSTEM, USER, ANSWER],
            "tools": TOOLS,
            "text": " Hello, Wörld! ",
            "numbers": [3, 1, 2],
            "people": [
                {"name": "Bo", "age": 30, "tags": ["x", "y"]},
                {"name": "al", "age": 5, "tags": []},
                {"name": "Cy", "age": 30, "tags": ["z"]},
            ],
            "mapping": {"b": 1, "a": [1.5, None, True], "C": "é\n'"},
            "nothing": None,
            "yes": True,
            "zero": 0,
            "pi": 3.14159,
            "big": 12345678901234567890.0,
            "add_generation_prompt": True,
        }
        try:
            results.append({"source": source, **outcome(jinja.from_string(source), variables)})
        except (jinja2.exceptions.TemplateError, SyntaxError) as error:
            results.append({"source": source, "error": "syntax", "message": str(error)})
    text = json.dumps({"variables": variables, "cases": results}, ensure_ascii=False, indent=0)
    (FOLDER / "expressions.json").write_text(text + "\n", encoding="utf-8")
    print(f"{len(cases)} conversations, {len(results)} expressions, jinja2 {jinja2.__version__}")


if __name__ == "__main__":
    main()
