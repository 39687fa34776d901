#!/usr/bin/env python3
"""Compares a converted model, as the engine computes it, with an independent source model.

    python3 check_default_model.py MODEL.gguf CHECKPOINT [CHECKPOINT ...]
        [--step3 PROGRAM | --numpy] [--text-tokens 2000] [--json OUT.json]

For every checkpoint: teacher-forced logits over 20 chat prompts and a piece of English text, by
`step3 score --logits-out` (or, with --numpy, by step3_reference.py), against llama_source.py on
the GGUF. Exit status 1 when a limit is broken:

    F32 checkpoint    maximum logit difference 2e-3
    BF16 checkpoint   mean KL divergence 1e-3, perplexity within 0.5 % of the source's
    both              the source's greedy token wherever its margin exceeds 0.1

Needs: numpy, gguf, tokenizers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from llama_source import LlamaSource, log_softmax
from safetensors_io import Checkpoint
from step3_reference import Step3Reference
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "Tests" / "Fixtures" / "evaluation"
WINDOW = 500
MARGIN = 0.1

Logits = Callable[[list[int]], np.ndarray]


def sequences(tokenizer: Tokenizer, text_tokens: int) -> list[tuple[str, list[int]]]:
    """The prompts as user turns, and the text in windows."""
    prompts = json.loads((DATA / "prompts.json").read_text())
    turns = [f"<|im_start|>user\n{p}<|im_end|>\n<|im_start|>assistant\n" for p in prompts]
    pieces = [("prompt", tokenizer.encode(turn).ids) for turn in turns]
    ids = tokenizer.encode((DATA / "text.txt").read_text()).ids[:text_tokens]
    for start in range(0, len(ids), WINDOW):
        pieces.append(("text", ids[start : start + WINDOW]))
    return pieces


def engine(program: str, checkpoint: str) -> Logits:
    """The logits that `step3 score` writes."""

    def logits(ids: list[int]) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            ids_file, out = Path(folder, "ids.json"), Path(folder, "model.safetensors")
            ids_file.write_text(json.dumps(ids))
            command = [program, "score", "--model", checkpoint, "--ids-file", str(ids_file)]
            command += ["--logits-out", str(out), "--format", "json"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
            return np.array(Checkpoint(Path(folder)).tensor("logits"))

    return logits


@dataclass
class Comparison:
    """What differs between a checkpoint and the source."""

    largest: float = 0.0
    divergences: list[float] = field(default_factory=list)
    losses: list[tuple[float, float]] = field(default_factory=list)
    clear: int = 0
    flipped: int = 0
    largest_flipped_margin: float = 0.0

    def add(self, kind: str, ids: list[int], source: np.ndarray, found: np.ndarray) -> None:
        """Takes one sequence's logits [tokens, vocabulary] of both."""
        source, found = source.astype(np.float64), found.astype(np.float64)
        self.largest = max(self.largest, float(np.abs(source - found).max()))
        a, b = log_softmax(source), log_softmax(found)
        self.divergences += (np.exp(a) * (a - b)).sum(-1).tolist()
        top = np.sort(source, -1)
        margin = top[:, -1] - top[:, -2]
        differs = source.argmax(-1) != found.argmax(-1)
        self.clear += int((margin > MARGIN).sum())
        self.flipped += int((differs & (margin > MARGIN)).sum())
        if differs.any():
            self.largest_flipped_margin = max(
                self.largest_flipped_margin, float(margin[differs].max())
            )
        if kind == "text":
            place = np.arange(len(ids) - 1), np.array(ids[1:])
            self.losses += list(zip(-a[:-1][place], -b[:-1][place], strict=True))

    def summary(self) -> dict[str, float]:
        """The figures, as one flat record."""
        losses = np.array(self.losses).mean(0)
        source, found = np.exp(losses)
        return {
            "tokens": len(self.divergences),
            "largest_logit_difference": self.largest,
            "mean_kl": float(np.mean(self.divergences)),
            "clear_tokens": self.clear,
            "clear_tokens_flipped": self.flipped,
            "largest_flipped_margin": self.largest_flipped_margin,
            "source_perplexity": float(source),
            "perplexity": float(found),
            "perplexity_change": float(found / source - 1),
        }


def broken_limits(dtype: str, figures: dict[str, float]) -> list[str]:
    """The limits of the module comment that the figures break."""
    broken = []
    if dtype == "F32" and figures["largest_logit_difference"] > 2e-3:
        broken.append("maximum logit difference above 2e-3")
    if dtype != "F32" and figures["mean_kl"] > 1e-3:
        broken.append("mean KL above 1e-3")
    if abs(figures["perplexity_change"]) > 5e-3:
        broken.append("perplexity off by more than 0.5 %")
    if figures["clear_tokens_flipped"]:
        broken.append("another greedy token where the source's margin exceeds 0.1")
    return broken


def main() -> int:
    """Compares every checkpoint given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--step3", default=str(ROOT / ".build/release/step3"))
    parser.add_argument("--numpy", action="store_true", help="the reference, not the engine")
    parser.add_argument("--text-tokens", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(Path(arguments.checkpoints[0], "tokenizer.json")))
    pieces = sequences(tokenizer, arguments.text_tokens)
    source = LlamaSource(arguments.gguf)
    models: dict[str, Logits] = {}
    for path in arguments.checkpoints:
        if arguments.numpy:
            models[path] = Step3Reference(path).logits
        else:
            models[path] = engine(arguments.step3, path)
    comparisons = {path: Comparison() for path in models}
    for kind, ids in pieces:
        expected = source.forward(ids)
        for path, logits in models.items():
            comparisons[path].add(kind, ids, expected, np.asarray(logits(ids)))
    status, record = 0, {}
    for path, comparison in comparisons.items():
        config = json.loads(Path(path, "config.json").read_text())
        dtype = "F32" if config["torch_dtype"] == "float32" else "BF16"
        figures = comparison.summary()
        broken = broken_limits(dtype, figures)
        record[path] = {"dtype": dtype, **figures, "broken": broken}
        print(f"{path} ({dtype})")
        for key, value in figures.items():
            print(f"  {key.replace('_', ' ')}: {value:.6g}")
        for line in broken:
            print(f"  BROKEN: {line}")
            status = 1
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
