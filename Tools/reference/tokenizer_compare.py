#!/usr/bin/env python3
"""Compares `step3 tokenize` with the Python package `tokenizers` on much mixed text.

    python3 Tools/reference/tokenizer_compare.py STEP3 CHECKPOINT [--megabytes 12] [--seed 1]
                                                 [--file TEXT] [--no-special]

Prints the number of ids compared and exits with 1 at the first difference, which it shows.
Needs `tokenizers`.
"""

import argparse
import pathlib
import subprocess
import sys
import time

from mixed_text import mixed_text
from tokenizers import Tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("step3")
    parser.add_argument("checkpoint")
    parser.add_argument("--megabytes", type=float, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file")
    parser.add_argument("--no-special", action="store_true")
    options = parser.parse_args()
    if options.file:
        text = pathlib.Path(options.file).read_bytes().decode("utf-8", errors="replace")
    else:
        text = mixed_text(options.seed, int(options.megabytes * 1e6))
    reference = Tokenizer.from_file(options.checkpoint + "/tokenizer.json")
    if options.no_special:
        reference.encode_special_tokens = True
    start = time.process_time()
    expected = reference.encode(text, add_special_tokens=False).ids
    print(f"tokenizers: {len(expected)} ids in {time.process_time() - start:.2f} s of CPU")
    command = [options.step3, "tokenize", "--model", options.checkpoint]
    if options.no_special:
        command.append("--no-special")
    start = time.time()
    result = subprocess.run(command, input=text.encode("utf-8"), capture_output=True, check=False)
    if result.returncode:
        sys.exit(result.stderr.decode())
    found = [int(word) for word in result.stdout.split()]
    size = len(text.encode("utf-8"))
    print(f"step3: {len(found)} ids in {time.time() - start:.2f} s of wall time, {size} bytes")
    for place, (a, b) in enumerate(zip(expected, found)):
        if a != b:
            low = max(0, place - 5)
            print(f"first difference at {place}")
            print("expected", [reference.id_to_token(i) for i in expected[low : place + 6]])
            print("found   ", [reference.id_to_token(i) for i in found[low : place + 6]])
            sys.exit(1)
    if len(expected) != len(found):
        sys.exit(f"lengths differ: {len(expected)} and {len(found)}")
    decode = subprocess.run(
        command[:4] + ["--decode"], input=result.stdout, capture_output=True, check=True
    )
    if decode.stdout.decode("utf-8") != reference.decode(expected, skip_special_tokens=False):
        sys.exit("decoded texts differ")
    print("equal")


main()
