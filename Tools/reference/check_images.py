#!/usr/bin/env python3
"""Compares `step3 image` with the reference: plans and pixels of many sizes, decoding of many files.

    python3 check_images.py [--step3 BINARY] [--seed 1] [--sizes 120] [--files 400]
    python3 check_images.py --vllm          the published processor itself as the reference

Sizes are those of the published table, all around the rules' thresholds, and random ones. Pixels
must be within 1e-5, and crops that are not resized in floats must be the same 8-bit values. Files
are of every format and kind that Pillow writes, and some that it only reads; decoded images must
be the same bytes as Pillow's.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import image_files
import image_reference as reference
import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent.parent
TABLE = [
    (224, 224), (640, 480), (728, 484), (640, 400), (700, 280), (728, 728), (729, 729), (800, 600),
    (1000, 300), (1024, 768), (1280, 720), (1920, 1080), (1080, 1920), (2000, 450), (2048, 2048),
    (3024, 3024), (4032, 3024), (3000, 700), (400, 30), (3500, 20), (3016, 32), (5000, 1),
    (4000, 32), (8000, 33), (1008, 300), (1, 1), (1, 4), (1, 5), (31, 124), (31, 125), (32, 200),
    (727, 727), (727, 484), (728, 485), (728, 486), (484, 728), (504, 504), (505, 505),
    (2016, 504), (2017, 504), (2017, 505), (3024, 504), (3025, 504), (756, 756), (604, 1109),
    (605, 1109), (1108, 1108), (1109, 1109), (1612, 1612), (1613, 1613), (3628, 3024), (1, 3024),
    (30, 3025), (3024, 1), (28, 120), (729, 100), (729, 183), (729, 182), (100, 2000),
]  # fmt: skip


def random_sizes(draw: random.Random, count: int) -> list[tuple[int, int]]:
    """Sizes of all proportions; some next to whole windows, where the rounding decides."""
    sizes = []
    while len(sizes) < count:
        kind = draw.random()
        if kind < 0.4:
            size = (draw.randint(1, 1600), draw.randint(1, 1600))
        elif kind < 0.7:
            near = [504 * n + round(504 * part) + draw.randint(-2, 2)
                    for n, part in [(draw.randint(0, 5), draw.choice([0, 0.2, 1])) for _ in "wh"]]
            size = (max(1, near[0]), max(1, near[1]))
        elif kind < 0.9:
            short = draw.randint(24, 500)
            size = (short, min(4000, int(short * draw.uniform(1, 9))))
        else:
            size = (draw.randint(2000, 4200), draw.randint(300, 3000))
        sizes.append(size if draw.random() < 0.5 else size[::-1])
    return sizes


def picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Gradients with noise and hard edges."""
    draw = np.random.default_rng(seed)
    w, h = size
    x, y = np.meshgrid(np.arange(w), np.arange(h))
    planes = [x * 255 // max(1, w - 1), y * 255 // max(1, h - 1), (x // 7 + y // 5) % 2 * 255]
    noise = draw.integers(-60, 60, (h, w, 3))
    return Image.fromarray((np.stack(planes, -1) + noise).clip(0, 255).astype(np.uint8))


def run(step3: Path, model: Path, files: list[Path], *flags: str) -> dict:
    """The engine's report on some files."""
    command = [step3, "image", "--model", model, *files, "--format", "json", *flags]
    result = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{result.stderr}")
    return json.loads(result.stdout)


def expected_report(size: tuple[int, int], rules: reference.Rules) -> dict:
    """What the engine should print, without the file's name and format."""
    def pair(value: tuple[int, int] | None) -> dict | None:
        return value and {"width": value[0], "height": value[1]}

    what = reference.plan(size, rules)
    names = ("x", "y", "width", "height")
    return {
        "original": pair(what.size), "padded": pair(what.padded), "capped": pair(what.capped),
        "window": what.window, "canvas": pair(what.canvas), "columns": what.columns,
        "rows": what.rows, "crops": [dict(zip(names, box, strict=True)) for box in what.boxes],
        "newlines": what.newlines, "tokens": len(what.placeholder),
        "placeholder": what.placeholder,
    }  # fmt: skip


def vllm_pixels(image: Image.Image) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixels of vLLM's own processor."""
    from vllm.transformers_utils.processors.step3_vl import Step3VLImageProcessor

    output = Step3VLImageProcessor()(image, return_tensors="pt")
    return output["pixel_values"], output["patch_pixel_values"]


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Normalised values as the 8-bit numbers they come from."""
    mean, deviation = np.array(reference.MEAN), np.array(reference.DEVIATION)
    values = values * deviation[:, None, None] + mean[:, None, None]
    return np.rint(values * 255).astype(int)


class SizeCheck:
    """Plans and pixels of sizes."""

    def __init__(self, step3: Path, model: Path, vllm: bool) -> None:
        self.step3, self.model, self.vllm = step3, model, vllm
        self.rules = reference.Rules(whole_inclusive=not vllm)
        self.flags = ["--image-window-rule", "below"] if vllm else []
        self.worst = 0.0
        self.unequal_bytes = 0
        self.failures: list[str] = []

    def check(self, size: tuple[int, int], seed: int, folder: Path) -> None:
        """One size."""
        image = picture(size, seed)
        file, out = folder / "image.png", folder / "pixels.safetensors"
        image.save(file, compress_level=1)
        found = run(self.step3, self.model, [file], "--pixels-out", str(out), *self.flags)
        report = found["images"][0]
        report = {k: v for k, v in report.items() if k not in ("file", "format")}
        if report != expected_report(size, self.rules):
            self.failures.append(f"{size}: another plan: {report['tokens']} tokens")
            return
        tensors = read(out)
        pixels = vllm_pixels(image) if self.vllm else reference.pixels(image, self.rules)
        for name, wanted in zip(("pixel_values", "patch_pixel_values"), pixels, strict=True):
            got = tensors[name]
            if got.shape != tuple(wanted.shape):
                self.failures.append(f"{size}: {name} {got.shape}, not {tuple(wanted.shape)}")
            elif got.size:
                self.compare(size, name, got, wanted.numpy(), report["window"])

    def compare(
        self, size: tuple[int, int], name: str, got: np.ndarray, wanted: np.ndarray, window: int
    ) -> None:
        """Differences of one tensor."""
        worst = float(np.abs(got - wanted).max())
        self.worst = max(self.worst, worst)
        if worst > 1e-5:
            self.failures.append(f"{size}: {name} differs by {worst}")
        if name == "patch_pixel_values" and window == 504:
            unequal = max(
                int((to_bytes(a) != to_bytes(b)).sum()) for a, b in zip(got, wanted, strict=True)
            )
            self.unequal_bytes += unequal


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    types = {"F32": np.float32, "U8": np.uint8}
    return {
        name: np.frombuffer(
            data[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]],
            types[entry["dtype"]],
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def check_files(step3: Path, model: Path, count: int, seed: int, folder: Path) -> list[str]:
    """Decoded files against Pillow."""
    failures = []
    for rule in ("over-white", "drop"):
        cases = image_files.cases(count // 2, seed + (rule == "drop"))
        paths = []
        for index, (name, data) in enumerate(cases):
            paths.append(folder / f"{index}.{name.split()[0].lower()}")
            paths[-1].write_bytes(data)
        out = folder / "decoded.safetensors"
        run(step3, model, paths, "--decoded-out", str(out), "--image-transparency", rule)
        tensors = read(out)
        for index, (name, data) in enumerate(cases):
            wanted = np.asarray(reference.decode(data, rule == "over-white"))
            got = tensors[f"image.{index}"]
            if got.shape != wanted.shape:
                failures.append(f"{rule}: {name}: {got.shape}, not {wanted.shape}")
            elif (got != wanted).any():
                difference = np.abs(got.astype(int) - wanted)
                failures.append(
                    f"{rule}: {name}: {(difference > 0).sum()} of {difference.size} values, by at "
                    f"most {difference.max()}"
                )
    return failures


def write_model(folder: Path) -> None:
    """A checkpoint folder with the published configuration and nothing else."""
    config = {
        "architectures": ["Step3VLForConditionalGeneration"], "model_type": "step3_vl",
        "understand_projector_stride": 2, "projector_bias": False, "vision_config": {},
        "text_config": {},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--step3", type=Path, default=ROOT / ".build/release/step3")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sizes", type=int, default=150, help="random sizes beside the fixed ones")
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--vllm", action="store_true")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    sizes = TABLE + random_sizes(draw, arguments.sizes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_model(folder)
        check = SizeCheck(arguments.step3, folder, arguments.vllm)
        for index, size in enumerate(sizes):
            check.check(size, arguments.seed + index, folder)
        failures = check.failures
        print(
            f"{len(sizes)} sizes: {len(failures)} failures, largest difference {check.worst:.2e}, "
            f"{check.unequal_bytes} unequal 8-bit values"
        )
        if arguments.files:
            found = check_files(arguments.step3, folder, arguments.files, arguments.seed, folder)
            print(f"{arguments.files} files: {len(found)} differ from Pillow's")
            failures += found
    print("\n".join(failures))
    return 1 if failures or check.unequal_bytes else 0


if __name__ == "__main__":
    sys.exit(main())
