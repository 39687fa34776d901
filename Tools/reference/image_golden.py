#!/usr/bin/env python3
"""Writes Tests/Fixtures/images: files with what Pillow reads in them, plans, and pixels.

    python3 image_golden.py ../../Tests/Fixtures/images

    files.json     per file: its bytes, its size, CRC-32 of the pixels over white and without
                   transparency
    plans.json     per size: [w, h, padded w, h, capped w, h, window, canvas w, h, columns, rows,
                   tokens]
    pixels.json    per size: CRC-32 of the shrunk image and of the canvas in 8 bits, and values of
                   the tensors at fixed places

Pictures are not stored: byte c of pixel (x, y) is that of `picture` below, on both sides.
"""

from __future__ import annotations

import base64
import json
import random
import sys
import zlib
from pathlib import Path

import check_images
import image_files
import image_reference as reference
import numpy as np
from PIL import Image

SAMPLES = 24
"""Values kept of each tensor, at multiples of a prime."""

STEP = 7919

PIXEL_SIZES = [
    (224, 224), (640, 400), (700, 280), (728, 728), (729, 729), (800, 600), (1000, 300), (400, 30),
    (1, 1), (3, 1), (5, 400), (1009, 61), (604, 260), (520, 190), (1, 900), (17, 900),
    (3060, 40), (733, 100), (300, 730),
]  # fmt: skip


def picture(size: tuple[int, int]) -> Image.Image:
    """A picture without randomness: ramps that wrap, at three speeds, and blocks."""
    w, h = size
    y, x, c = np.meshgrid(np.arange(h), np.arange(w), np.arange(3), indexing="ij")
    values = x * (7 + 4 * c) + y * (13 - 3 * c) + (x // 16 ^ y // 16) * 59 + (x * y >> 3)
    return Image.fromarray((values & 255).astype(np.uint8))


def crc(image: Image.Image | None) -> int | None:
    """The checksum of an image's bytes."""
    return None if image is None else zlib.crc32(np.asarray(image).tobytes())


def samples(tensor: np.ndarray) -> list[float]:
    """Values at fixed places."""
    flat = tensor.reshape(-1)
    return [float(flat[index * STEP * 97 % flat.size]) for index in range(SAMPLES)]


def file_cases() -> list[dict]:
    """Files of all kinds."""
    cases = []
    for name, data in image_files.cases(180, 11):
        over_white = reference.decode(data, over_white=True)
        cases.append({
            "name": name, "base64": base64.b64encode(data).decode(), "size": over_white.size,
            "over_white": crc(over_white), "drop": crc(reference.decode(data, over_white=False)),
        })  # fmt: skip
    return cases


def plan_cases() -> list[list[int]]:
    """Plans of fixed and random sizes."""
    rows = []
    for size in check_images.TABLE + check_images.random_sizes(random.Random(5), 300):
        what = reference.plan(size)
        rows.append([
            *size, *what.padded, *what.capped, what.window, *(what.canvas or (0, 0)), what.columns,
            what.rows, len(what.placeholder),
        ])  # fmt: skip
    return rows


def pixel_cases() -> list[dict]:
    """Checksums and values of prepared pictures."""
    cases = []
    for size in PIXEL_SIZES:
        image = picture(size)
        whole, canvas, crops = reference.steps(image)
        case = {
            "size": size, "whole": crc(whole), "canvas": crc(canvas),
            "pixels": samples(reference.tensor(whole, 728).numpy()),
        }  # fmt: skip
        if crops:
            case["crop"] = len(crops) - 1
            case["crop_pixels"] = samples(reference.tensor(crops[-1], 504).numpy())
        cases.append(case)
    return cases


def main() -> None:
    """The command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, cases in [
        ("files", file_cases()), ("plans", plan_cases()), ("pixels", pixel_cases())
    ]:  # fmt: skip
        lines = ",\n".join(json.dumps(case) for case in cases)
        (folder / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
