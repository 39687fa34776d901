"""Writes Tests/Fixtures/constrained-decoding/schemas.json: documents and what jsonschema says.

Random documents are drawn for each schema, most of them then damaged at one place; whether they are
valid is the verdict of the `jsonschema` package. Keys keep the schema's order and white space is
that of json.dumps, for a grammar allows no other order and only bounded white space.
Usage: python3 schema_golden.py ../../Tests/Fixtures/constrained-decoding
       python3 schema_golden.py --check SAMPLES.json     (texts generated under the same schemas)
"""

import copy
import json
import pathlib
import random
import re
import sys

import jsonschema


def obj(properties, required=None, extra=False, **more):
    return {"type": "object", "properties": properties, "additionalProperties": extra,
            "required": list(properties) if required is None else required, **more}


STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
SCHEMAS = {
    "person": obj({"name": STRING, "age": INTEGER, "ok": {"type": "boolean"}}, ["name"]),
    "all optional": obj({c: {"type": ["null", "integer"]} for c in "abcdef"}, []),
    "map": {"type": "object", "additionalProperties": NUMBER, "minProperties": 1,
            "maxProperties": 3},
    "map beside names": obj({"a": INTEGER, "b\"\\é": STRING}, ["a"], extra={"type": "null"}),
    "lengths": {"type": "string", "minLength": 2, "maxLength": 5},
    "long": {"type": "string", "minLength": 3},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2,3}-[0-9]+(\\.[0-9])?$"},
    "search": {"type": "string", "pattern": "a[^b]c|\"|日"},
    "pattern and length": {"type": "string", "pattern": "^(ab|é|\\\\)*$", "minLength": 3,
                           "maxLength": 6},
    "integers": {"type": "integer", "minimum": -17, "maximum": 1305},
    "above": {"type": "integer", "exclusiveMinimum": 7},
    "below": {"type": "integer", "exclusiveMaximum": -98},
    "numbers": {"type": "number", "minimum": -2.75, "exclusiveMaximum": 10.05},
    "fractions": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "negative": {"type": "number", "maximum": -0.5},
    "multiples": {"type": "integer", "multipleOf": 7, "minimum": -100, "maximum": 1000},
    "cents": {"type": "number", "multipleOf": 0.01},
    "enum": {"enum": ["red", "green", 1, 2.5, None, True, {"a": [1, "x"]}, "é\"\n"]},
    "typed enum": {"type": ["string", "null"], "enum": ["a", 1, None, "bb"], "maxLength": 1},
    "list": {"type": "array", "items": INTEGER, "minItems": 1, "maxItems": 4},
    "tuple": {"type": "array", "prefixItems": [STRING, INTEGER, {"type": "boolean"}],
              "items": {"type": "null"}, "minItems": 2, "maxItems": 5},
    "union": {"anyOf": [STRING, {"type": "array", "items": STRING}, {"type": "null"}]},
    "one of": {"oneOf": [obj({"kind": {"const": "a"}, "x": INTEGER}),
                         obj({"kind": {"const": "b"}, "y": STRING})]},
    "all of": {"allOf": [obj({"a": INTEGER, "b": STRING}, ["a"], extra=True),
                         obj({"b": {"type": "string", "maxLength": 2}, "c": NUMBER}, ["b"],
                             extra=True), {"additionalProperties": True}]},
    "tree": {"$ref": "#/$defs/node", "$defs": {"node": obj(
        {"value": INTEGER, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}})}},
    "expression": {"$defs": {"e": {"anyOf": [NUMBER, obj(
        {"op": {"enum": ["+", "*"]}, "left": {"$ref": "#/$defs/e"},
         "right": {"$ref": "#/$defs/e"}})]}}, "$ref": "#/$defs/e"},
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "nested": obj({"steps": {"type": "array", "items": obj(
        {"explanation": STRING, "output": {"type": ["string", "null"]}})},
        "answer": {"anyOf": [INTEGER, STRING]}}),
}
LETTERS = ["a", "b", "c", "A", "Z", "0", "7", ".", "-", "é", "日", "🤔", '"', "\\", "\n", "\x01"]


def text(rng, low=0, high=8):
    return "".join(rng.choice(LETTERS) for _ in range(rng.randint(low, high)))


def from_pattern(rng, schema):
    choices = {
        "^[A-Z]{2,3}-[0-9]+(\\.[0-9])?$": ["AB-1", "XYZ-077", "QQ-12.5", "ABC-9.9"],
        "a[^b]c|\"|日": ["aéc", "x\"y", "日本", "abcaac"],
        "^(ab|é|\\\\)*$": ["ab\\", "ééé", "ababab", "\\é\\ab"],
    }
    return rng.choice(choices[schema["pattern"]])


def draw(rng, schema, root, depth=0):
    if "$ref" in schema:
        target = root
        for step in schema["$ref"][2:].split("/"):
            target = target[step]
        return draw(rng, target, root, depth + 1)
    if "enum" in schema:
        return copy.deepcopy(rng.choice(schema["enum"]))
    if "const" in schema:
        return schema["const"]
    for key in ("anyOf", "oneOf"):
        if key in schema:
            branches = schema[key][:1] if depth > 6 else schema[key]
            return draw(rng, rng.choice(branches), root, depth + 1)
    if "allOf" in schema:
        return {"a": rng.randint(-9, 9), "b": text(rng, 0, 2), "c": rng.randint(0, 5)}
    kind = schema["type"]
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind == "null":
        return None
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "integer":
        step = schema.get("multipleOf", 1)
        low = schema.get("minimum", schema.get("exclusiveMinimum", -2000))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 2000))
        return rng.randint(low - 3, high + 3) // step * step
    if kind == "number":
        low = schema.get("minimum", schema.get("exclusiveMinimum", -20))
        high = schema.get("maximum", schema.get("exclusiveMaximum", 20))
        return rng.choice([round(rng.uniform(low - 0.5, high + 0.5), rng.randint(1, 4)), low, high])
    if kind == "string":
        if "pattern" in schema:
            return from_pattern(rng, schema)
        if schema.get("format") == "date":
            return f"{rng.randint(1, 9999):04}-{rng.randint(1, 13):02}-{rng.randint(1, 31):02}"
        if schema.get("format") == "uuid":
            return "%08x-%04x-%04x-%04x-%012x" % tuple(
                rng.getrandbits(n) for n in (32, 16, 16, 16, 48))
        return text(rng, schema.get("minLength", 0), schema.get("maxLength", 8))
    if kind == "array":
        items = [draw(rng, s, root, depth + 1) for s in schema.get("prefixItems", [])]
        count = 0 if depth > 6 else rng.randint(0, 3)
        return items + [draw(rng, schema["items"], root, depth + 1) for _ in range(count)]
    result = {}
    for name, value in schema.get("properties", {}).items():
        if name in schema.get("required", []) or rng.random() < 0.5:
            result[name] = draw(rng, value, root, depth + 1)
    if isinstance(schema.get("additionalProperties"), dict):
        for _ in range(rng.randint(0, 3)):
            result[text(rng, 1, 3)] = draw(rng, schema["additionalProperties"], root, depth + 1)
    return result


def damage(rng, value):
    """The value with one thing changed; often invalid, sometimes not."""
    if isinstance(value, dict) and value and rng.random() < 0.7:
        value = dict(value)
        key = rng.choice(list(value))
        action = rng.random()
        if action < 0.3:
            del value[key]
        elif action < 0.5:
            value["zz"] = rng.choice([1, None, "x"])
        else:
            value[key] = damage(rng, value[key])
        return value
    if isinstance(value, list) and value and rng.random() < 0.7:
        value = list(value)
        place = rng.randrange(len(value))
        if rng.random() < 0.3:
            value.append(value[place])
        else:
            value[place] = damage(rng, value[place])
        return value
    if isinstance(value, str) and rng.random() < 0.7:
        place = rng.randint(0, len(value))
        return value[:place] + rng.choice(LETTERS) + value[place + rng.randint(0, 1):]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.7:
        return rng.choice([value + 1, value - 1, value + 1000, -value - 1, value + 0.5])
    return rng.choice([None, True, 3, -7.25, "x", "", [], {}, [1], {"a": 1}])


def comparable(value):
    """Whether the grammar and jsonschema speak of the same: no integral floats, no exponents."""
    if isinstance(value, dict):
        return all(comparable(v) for v in value.values())
    if isinstance(value, list):
        return all(comparable(v) for v in value)
    if isinstance(value, float):
        return value != int(value) and "e" not in repr(value) and len(repr(value)) < 18
    return True


def write(rng, value):
    style = rng.choice([{"separators": (",", ":")}, {}, {"indent": 2}])
    return json.dumps(value, ensure_ascii=False, **style)


def in_order(value, schema):
    """Whether the keys a grammar would write first come first, in the schema's order."""
    if schema in (SCHEMAS["map beside names"], SCHEMAS["all of"]) and isinstance(value, dict):
        names = list(SCHEMAS["map beside names"]["properties"]) \
            if schema is SCHEMAS["map beside names"] else ["a", "b", "c"]
        known = [k for k in value if k in names]
        return list(value)[:len(known)] == [n for n in names if n in value]
    return True


def validator(schema):
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def main(folder):
    rng = random.Random(20250801)
    entries = []
    for name, schema in SCHEMAS.items():
        check = validator(schema)
        texts = {True: set(), False: set()}
        for _ in range(600):
            value = draw(rng, schema, schema)
            for _ in range(rng.choice([0, 0, 1, 1, 2])):
                value = damage(rng, value)
            if not comparable(value) or not in_order(value, schema):
                continue
            # Python's `$` also matches before a line break at the end; the standard's does not.
            if "pattern" in schema and isinstance(value, str) and value.endswith("\n"):
                continue
            # Multiples of 0.01 are decided in decimals here, in binary floating point there.
            if name == "cents" and isinstance(value, float):
                verdict = re.fullmatch(r"-?\d+\.\d{1,2}", repr(value)) is not None
            else:
                verdict = check.is_valid(value)
            if len(texts[verdict]) < 25:
                texts[verdict].add(write(rng, value))
        # The same text must not be on both sides because of how it was written.
        assert not texts[True] & texts[False], name
        entries.append({"name": name, "schema": schema, "valid": sorted(texts[True]),
                        "invalid": sorted(texts[False])})
        print(name, len(texts[True]), len(texts[False]))
    path = pathlib.Path(folder) / "schemas.json"
    path.write_text(json.dumps(entries, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


def check_samples(path):
    count = 0
    for name, texts in json.loads(pathlib.Path(path).read_text(encoding="utf-8")).items():
        check = validator(SCHEMAS[name])
        for sample in texts:
            error = jsonschema.exceptions.best_match(check.iter_errors(json.loads(sample)))
            if error and not (name == "cents" and error.validator == "multipleOf"):
                sys.exit(f"{name}: {sample!r}: {error.message}")
            count += 1
    print(count, "samples are valid")


if __name__ == "__main__":
    check_samples(sys.argv[2]) if sys.argv[1] == "--check" else main(sys.argv[1])
