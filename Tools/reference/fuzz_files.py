#!/usr/bin/env python3
"""Damages checkpoint folders at random and sees that the engine refuses them in words.

    python3 fuzz_files.py FOLDER ... [--step3 BINARY] [--count 200] [--seed 1]

Every case is a function of its seed. A case fails when a command ends by a signal, does not end,
exits with an undocumented code, or fails without a message.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
ODD_VALUES: list[Any] = [
    None, True, 0, -1, 1, 2**31, 2**63, -(2**63), 1e308, 1e-9, 0.5, "", "x", "-1", [], {}, [0, 5],
    [[]], {"a": 1}, "9" * 400, "\u0000", "F8_E4M3", [1, 2, 3, 4, 5], [-4, 4],
]  # fmt: skip
DOCUMENTED = {0, 1, 2, 3, 4}


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    """Flips, cuts, repeats or inserts bytes."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        position = draw.randrange(len(changed) + 1)
        kind = draw.randrange(4)
        if kind == 0 and position < len(changed):
            changed[position] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del changed[position : position + draw.choice([1, 2, 50, 10**9])]
        elif kind == 2:
            changed[position:position] = draw.randbytes(draw.choice([1, 9]))
        else:
            changed[position:position] = changed[max(0, position - 20) : position]
    return bytes(changed)


def mutate_document(document: Any, draw: random.Random) -> Any:
    """Replaces, removes or doubles one value somewhere in a JSON document."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, child in list(items)[:400]:
            places.append((node, key))
            if isinstance(child, dict | list):
                walk(child)

    if isinstance(document, dict | list):
        walk(document)
    if not places:
        return draw.choice(ODD_VALUES)
    node, key = draw.choice(places)
    if isinstance(node, dict) and draw.random() < 0.3:
        del node[key]
    else:
        node[key] = draw.choice(ODD_VALUES)
    return document


def damage_json(path: Path, draw: random.Random) -> None:
    """A JSON file: its bytes or its values."""
    if draw.random() < 0.4:
        path.write_bytes(mutate_bytes(path.read_bytes(), draw))
    else:
        path.write_text(json.dumps(mutate_document(json.loads(path.read_text()), draw)))


def damage_weights(path: Path, draw: random.Random) -> None:
    """A weights file: its header's values, its length prefix, its length, or any byte of it."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + length], data[8 + length :]
    kind = draw.randrange(4)
    if kind == 0:
        document = json.dumps(mutate_document(json.loads(header), draw)).encode()
        path.write_bytes(struct.pack("<Q", len(document)) + document + body)
    elif kind == 1:
        wrong = draw.choice([0, 1, length - 1, length + 1, len(data), 2**40, 2**63, 2**64 - 1])
        path.write_bytes(struct.pack("<Q", wrong) + header + body)
    elif kind == 2:
        path.write_bytes(data[: draw.choice([0, 7, 8, 20, draw.randrange(len(data))])])
    else:
        damaged = mutate_bytes(header, draw)
        path.write_bytes(struct.pack("<Q", len(damaged)) + damaged + body)


def damage(folder: Path, draw: random.Random) -> str:
    """Damages one file of the folder; which."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    path = draw.choice(paths)
    if draw.random() < 0.03:
        path.unlink()
        return f"{path.name} removed"
    action: Callable[[Path, random.Random], None]
    action = damage_weights if path.suffix == ".safetensors" else damage_json
    action(path, draw)
    return path.name


def fault(command: list[str | Path]) -> str | None:
    """What is wrong with how a command ended, or nothing."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return "did not end"
    if result.returncode not in DOCUMENTED:
        return f"exit code {result.returncode}: {result.stderr.strip()[-300:]}"
    if result.returncode and not result.stderr.strip():
        return f"exit code {result.returncode} without a message"
    return None


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Damages checkpoints and watches the engine.")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--step3", type=Path, default=ROOT / ".build/release/step3")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    binary, faults = arguments.step3, 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        draw = random.Random(seed)
        source = draw.choice(arguments.folders)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / source.name
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns("golden"))
            what = damage(folder, draw)
            commands: list[list[str | Path]] = [
                [binary, "score", "--model", folder, "--ids", "1,2,3", "--threads", "1"],
                [binary, "tokenize", "--model", folder, "--text", "a <think> b"],
            ]
            if what.startswith("tokenizer"):
                commands = commands[1:]
            for command in commands:
                if found := fault(command):
                    faults += 1
                    print(f"seed {seed}: {source.name}/{what}: {command[1]}: {found}", flush=True)
    print(f"{arguments.count} cases, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
