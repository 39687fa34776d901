#!/usr/bin/env python3
"""Compares the engine's image features with the NumPy reference, on towers of random sizes.

    python3 check_towers.py [--step3 BINARY] [--seed 1] [--towers 40]

Each tower differs in patch size, grid, depth, widths, heads, strides, precision and where its
names stand. An image that is kept whole and one that is cut go through `step3 image`, which writes
the pixels and the features; the reference takes those pixels. F32 must be within 1e-4 of the
largest feature; with BF16 weights and activations every image token has a cosine of 0.999.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from make_tiny_checkpoints import DENSE, Recipe, write_documents, write_weights
from PIL import Image
from safetensors_io import Checkpoint
from step3_layout import VisionShape
from vision_reference import VisionReference

ROOT = Path(__file__).resolve().parent.parent.parent
DTYPES = {"F32": "float32", "BF16": "bfloat16"}
"""The precision of activations: that of the weights."""


def random_recipe(draw: random.Random, name: str) -> Recipe:
    """A tower of sizes that no fixture has; crops are 9 / 13 of an image, as in the real one."""
    heads, patch = draw.choice([1, 2, 3, 4, 5, 8]), draw.choice([2, 3, 4, 5, 6, 7, 11])
    shape = VisionShape(
        hidden=heads * draw.randrange(3, 24), ffn=draw.randrange(8, 150),
        layers=draw.randrange(0, 5), heads=heads, image_size=13 * patch,
        patch_size=patch, output=draw.randrange(3, 60),
        stride=draw.choice([1, 2, 3]), projector_bias=draw.random() < 0.5,
        separate_queries=draw.random() < 0.3, flat_class_token=draw.random() < 0.3,
    )  # fmt: skip
    return Recipe(
        name, "", DENSE, draw.choice(["F32", "BF16"]), vision=shape,
        nested_names=draw.random() < 0.5,
    )  # fmt: skip


def check(recipe: Recipe, root: Path, step3: Path, draw: random.Random) -> float:
    """The error of one tower, in units of what is allowed."""
    folder = root / recipe.name
    folder.mkdir()
    write_documents(folder, recipe)
    write_weights(folder, recipe)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["layer_norm_eps"] = draw.choice([1e-5, 1e-6, 1e-3])
    (folder / "config.json").write_text(json.dumps(config))
    files, generator = [], np.random.default_rng(draw.randrange(1 << 30))
    for number, size in enumerate([(90, 70), (1000 + draw.randrange(500), 800)]):
        small = generator.integers(0, 256, (size[1] // 10, size[0] // 10, 3), dtype=np.uint8)
        files.append(root / f"{recipe.name}-{number}.png")
        Image.fromarray(small).resize(size).save(files[-1])
    out = folder / "out"
    out.mkdir()
    run = subprocess.run(
        [step3, "image", "--model", folder, *files, "--pixels-out", out / "pixels.safetensors"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not run.returncode:
        features = folder / "features"
        features.mkdir()
        run = subprocess.run(
            [step3, "image", "--model", folder, *files, "--features-out",
             features / "features.safetensors", "--dtype", DTYPES[recipe.dtype]],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if run.returncode:
        sys.exit(f"{recipe}: {run.stderr.strip()}")
    pixels, found = Checkpoint(out), Checkpoint(features)
    model = VisionReference(folder)
    whole = pixels.tensor("pixel_values").astype(np.float32)
    crops = pixels.tensor("patch_pixel_values").astype(np.float32)
    rows = [model.features(whole[:1])[0]]
    if len(crops):
        rows.append(np.concatenate(list(model.features(crops))))
    rows.append(model.features(whole[1:])[0])
    expected = np.concatenate(rows)
    ours = np.concatenate([found.tensor(f"features.{i}") for i in range(2)]).astype(np.float64)
    if ours.shape != expected.shape:
        sys.exit(f"{recipe}: features {ours.shape}, expected {expected.shape}")
    if recipe.dtype == "F32":
        return float(np.abs(ours - expected).max() / np.abs(expected).max() / 1e-4)
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(expected, axis=-1)
    return float(1 - ((ours * expected).sum(-1) / lengths).min()) / 1e-3


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step3", type=Path, default=ROOT / ".build/release/step3")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--towers", type=int, default=40)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    worst = {"F32": 0.0, "BF16": 0.0}
    with tempfile.TemporaryDirectory() as root:
        for number in range(arguments.towers):
            recipe = random_recipe(draw, f"tower-{number}")
            error = check(recipe, Path(root), arguments.step3, draw)
            worst[recipe.dtype] = max(worst[recipe.dtype], error)
            if error > 1:
                print(f"wrong by {error:.2f} of what is allowed: {recipe}")
    print(f"{arguments.towers} towers; worst F32 {worst['F32'] * 1e-4:.1e}, "
          f"worst BF16 1 - {worst['BF16'] * 1e-3:.1e}")  # fmt: skip
    return int(max(worst.values()) > 1)


if __name__ == "__main__":
    sys.exit(main())
