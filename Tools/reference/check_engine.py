#!/usr/bin/env python3
"""Compares the engine with the reference on random shapes that no fixture has.

    python3 check_engine.py [--step3 BINARY] [--count 20] [--seed 1] [--kernels reference,avx2]
    python3 check_engine.py --model FOLDER [--ids 1,2,3]        one folder instead

Every case is a function of its seed, which is printed; `--count 1 --seed S` repeats case S. For
each kernel set the logits are compared with the reference's, and with the engine's own for other
chunk sizes and thread counts: those must be the same bits.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from make_tiny_checkpoints import Recipe, clear_tokens, write_documents, write_weights
from safetensors_io import Checkpoint
from step3_layout import Shape
from step3_reference import Step3Reference

ROOT = Path(__file__).resolve().parent.parent.parent
VARIATIONS = [("1", "1"), ("2", "5"), ("1", "16"), ("2", "1000")]
"""Threads and chunk sizes that must not change a bit."""


def random_recipe(seed: int) -> Recipe:
    """A checkpoint whose shape, formats and configuration follow from the seed."""
    draw = random.Random(seed)

    def width(low: int, high: int) -> int:
        """Mostly odd widths, sometimes round ones, sometimes next to a block's edge."""
        edges = [n for n in (16, 32, 64, 127, 128, 129, 256) if low <= n <= high]
        return draw.choice(edges) if edges and draw.random() < 0.4 else draw.randint(low, high)

    layers = draw.randint(1, 4)
    dense = tuple(i for i in range(layers) if draw.random() < 0.4)
    expert_count = draw.randint(1, 9)
    shape = Shape(
        hidden=width(8, 300), layers=layers, dense=dense, ffn=width(4, 300),
        heads=draw.randint(1, 9), head_dim=2 * width(1, 70), query_dim=width(4, 300),
        experts=expert_count, top_k=draw.randint(1, expert_count), expert_width=width(3, 200),
        shared_width=width(3, 200), vocabulary=width(280, 900),
    )  # fmt: skip
    dtype = draw.choice(["F32", "BF16"])
    quantised = draw.choice([(), (), ("expert",), ("linear", "expert")]) if dtype == "BF16" else ()
    mixtures = shape.moe_layers
    listed = [str(layer) for layer in mixtures]
    enum = draw.choice([mixtures, ",".join(listed), ", ".join(listed)])
    config = {
        "norm_expert_weight": draw.random() < 0.5, "moe_layers_enum": enum,
        "rope_theta": draw.choice([500000.0, 10000, 100.0]),
    }  # fmt: skip
    return Recipe(
        f"random-{seed}", "", shape, dtype, quantised=quantised,
        scale_dtype=draw.choice(["F32", "BF16"]), shards=draw.randint(1, 3), config=config,
        wide_kinds=draw.choice([(), ("norm",), ("norm", "router"), ("embedding",)]),
        nested_names=draw.random() < 0.3, tokens=draw.randint(1, 70),
    )  # fmt: skip


def engine_logits(
    binary: list[str], folder: Path, ids: list[int], kernels: str, threads: str, chunk: str
) -> np.ndarray:
    """Logits [T, V] as `step3 score` writes them; `binary` is its path and further flags."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "logits.safetensors"
        command: list[str | Path] = [
            binary[0], "score", *binary[1:], "--model", folder, "--ids", ",".join(map(str, ids)),
            "--kernels", kernels, "--threads", threads, "--chunk", chunk, "--logits-out", out,
        ]  # fmt: skip
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"exit code {result.returncode}: {result.stderr.strip()[-300:]}")
        return Checkpoint(Path(temporary)).tensor("logits").copy()


def judge(found: np.ndarray, expected: np.ndarray, exact: bool) -> tuple[bool, str]:
    """Whether the logits are within tolerance, and how far they are."""
    if found.shape != expected.shape:
        return False, f"shape {found.shape}, expected {expected.shape}"
    difference = float(np.abs(found - expected).max() / (expected.max() - expected.min()))
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    cosine = float(((found * expected).sum(axis=-1) / norms).min())
    ranked = np.sort(expected, axis=-1)
    clear = ranked[:, -1] - ranked[:, -2] > 0.05 * expected.std()
    wrong = int((found.argmax(axis=-1) != expected.argmax(axis=-1))[clear].sum())
    good = difference <= 1e-4 if exact else cosine >= 0.999 and wrong == 0
    return good, f"difference {difference:.1e} of the range, cosine {cosine:.6f}, {wrong} wrong"


def check_folder(
    binary: list[str], folder: Path, ids: list[int], kernel_sets: list[str], exact: bool
) -> list[str]:
    """Prints a line per kernel set; what was wrong."""
    expected = Step3Reference(folder).logits(ids)
    faults = []
    for kernels in kernel_sets:
        try:
            whole = engine_logits(binary, folder, ids, kernels, "2", "64")
            good, text = judge(whole.astype(np.float64), expected, exact)
            print(f"  {kernels:10} {text}")
            if not good:
                faults.append(f"{kernels}: {text}")
            for threads, chunk in VARIATIONS:
                other = engine_logits(binary, folder, ids, kernels, threads, chunk)
                if other.tobytes() != whole.tobytes():
                    faults.append(f"{kernels}: bits change with {threads} threads, chunk {chunk}")
        except RuntimeError as error:
            faults.append(f"{kernels}: {error}")
    return faults


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Checks the engine on random shapes.")
    parser.add_argument("--step3", type=Path, default=ROOT / ".build/release/step3")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the first case")
    parser.add_argument("--kernels", default="reference,avx2,avx512,avx512-fma")
    parser.add_argument("--model", type=Path, help="check this folder instead")
    parser.add_argument("--ids", default="1,2,3,4,5,6,7,8")
    parser.add_argument("--flags", default="", help="of score, such as '--dtype bfloat16'")
    arguments = parser.parse_args()
    binary = [str(arguments.step3), *arguments.flags.split()]
    kernel_sets = arguments.kernels.split(",")
    faults: list[str] = []
    if arguments.model:
        ids = [int(piece) for piece in arguments.ids.split(",")]
        exact = {e.dtype for e in Checkpoint(arguments.model).entries.values()} == {"F32"}
        faults = check_folder(binary, arguments.model, ids, kernel_sets, exact)
    for seed in range(arguments.seed, arguments.seed + (0 if arguments.model else arguments.count)):
        recipe = random_recipe(seed)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            write_documents(folder, recipe)
            write_weights(folder, recipe)
            ids = clear_tokens(Step3Reference(folder), recipe, candidates=8)
            print(f"seed {seed}: {recipe.dtype} {recipe.quantised} {recipe.shape}", flush=True)
            exact = recipe.dtype == "F32"
            found = check_folder(binary, folder, ids, kernel_sets, exact)
            faults += [f"seed {seed}: {fault}" for fault in found]
    print("\n".join(faults) or "no faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
