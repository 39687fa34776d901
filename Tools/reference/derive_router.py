#!/usr/bin/env python3
"""Derives router rows for upcycled layers from a model's real activations.

    python3 derive_router.py MODEL.gguf TOKENIZER.json TEXT.txt PROMPTS.json OUT [--layers 6,13,20]

Upcycled experts are identical copies, so the router cannot change an answer; it should send
different tokens to different experts, and about equally many to each. For every layer: the inputs
of its MLP over the text and the prompts, minus the part along their mean (it is common to all
tokens and would decide alone), spherical k-means, and a few rounds that shorten the rows of
overfull experts. OUT/model.safetensors holds `model.layers.N.moe.gate.weight`, BF16 [E, hidden].

Needs: numpy, gguf, tokenizers. Deterministic for given versions (README.md beside the result).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from llama_source import LlamaSource
from safetensors_io import Stored, narrow, write_file
from tokenizers import Tokenizer

WINDOW = 512
TEXT_TOKENS = 6144
SCALE = 8.0


def token_windows(tokenizer: Tokenizer, text: str, prompts: list[str]) -> list[list[int]]:
    """Windows of text tokens, then each prompt as a user's turn."""
    ids = tokenizer.encode(text).ids[:TEXT_TOKENS]
    windows = [ids[i : i + WINDOW] for i in range(0, len(ids), WINDOW)]
    for prompt in prompts:
        turn = f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        windows.append(tokenizer.encode(turn).ids)
    return windows


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def router_rows(inputs: np.ndarray, experts: int, rounds: int = 40) -> np.ndarray:
    """Rows [experts, hidden] that deal the inputs out evenly by direction."""
    mean = inputs.mean(0)
    mean /= np.linalg.norm(mean)
    points = unit(inputs - np.outer(inputs @ mean, mean))
    centres = [points[0]]
    while len(centres) < experts:
        nearest = np.max(points @ np.stack(centres).T, axis=1)
        centres.append(points[np.argmin(nearest)])
    rows = np.stack(centres)
    for _ in range(rounds):
        chosen = np.argmax(points @ rows.T, axis=1)
        rows = unit(np.stack([points[chosen == e].sum(0) for e in range(experts)]))
    length = np.ones(experts)
    for _ in range(200):
        load = np.bincount(np.argmax(points @ (rows * length[:, None]).T, 1), minlength=experts)
        length *= 1 - 0.05 * (load / len(points) - 1 / experts)
    rows = rows * length[:, None]
    rows = rows - np.outer(rows @ mean, mean)
    return rows.astype(np.float32) * np.float32(SCALE / np.sqrt(inputs.shape[1]))


def main() -> None:
    """Measures, derives, reports the balance, writes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    parser.add_argument("tokenizer")
    parser.add_argument("text", type=Path)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--layers", default="6,13,20,27")
    parser.add_argument("--experts", type=int, default=4)
    arguments = parser.parse_args()
    layers = [int(x) for x in arguments.layers.split(",")]
    model = LlamaSource(arguments.gguf)
    tokenizer = Tokenizer.from_file(arguments.tokenizer)
    prompts = json.loads(arguments.prompts.read_text())
    windows = token_windows(tokenizer, arguments.text.read_text(), prompts)
    seen: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}

    def observe(layer: int, place: str, x: np.ndarray) -> None:
        if place == "mlp" and layer in seen:
            seen[layer].append(x.copy())

    for window in windows:
        model.forward(window, observe)
    tensors = []
    for layer in layers:
        # Every other window derives the rows, the rest shows how even they are.
        rows = router_rows(np.concatenate(seen[layer][0::2]), arguments.experts)
        codes = narrow(rows, "BF16")
        held_out = np.concatenate(seen[layer][1::2])
        load = np.bincount(np.argmax(held_out @ rows.T, 1), minlength=arguments.experts)
        print(f"layer {layer}: share of held-out tokens {np.round(load / load.sum(), 3).tolist()}")
        tensors.append(Stored(f"model.layers.{layer}.moe.gate.weight", "BF16", codes))
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_file(arguments.out / "model.safetensors", tensors)


if __name__ == "__main__":
    main()
