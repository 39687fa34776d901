#!/usr/bin/env python3
"""The vision tower and the projector of Step3 in NumPy: the oracle of image features.

    python3 vision_reference.py MODEL --pixels pixels.npy --out features.npy

Written from the published description of the architecture, for the eye and not for speed.
Weights are widened exactly (BF16 to float32); arithmetic is float64 unless told otherwise.

Shapes: B views (crops, or whole images) of S x S pixels, g = S // patch rows and columns of
patches, C width, M width of the MLP, O channels of the first convolution, D hidden size of the
text model. A view becomes n x n rows of D, n = grid(grid(g, 2, stride), 3, 2, 1).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors_io import Checkpoint
from step3_reference import softmax

DEFAULTS: dict[str, Any] = {
    "hidden_size": 1792, "num_hidden_layers": 63, "num_attention_heads": 16,
    "intermediate_size": 3072, "output_hidden_size": 4096, "image_size": 728,
    "patch_size": 14, "num_channels": 3, "layer_norm_eps": 1e-5,
}  # fmt: skip
"""What an absent key of the vision configuration means."""

CLASS_TOKENS = 4
"""The class token and its three copies."""


@dataclass(frozen=True)
class VisionConfig:
    """The facts of the tower and of what comes after it."""

    hidden: int
    layers: int
    heads: int
    image_size: int
    patch: int
    epsilon: float
    stride: int
    image_token: int

    @staticmethod
    def load(directory: Path) -> VisionConfig:
        """Reads config.json; absent keys take the class defaults."""
        document = json.loads((directory / "config.json").read_text())
        vision = document.get("vision_config") or {}

        def value(key: str) -> Any:
            return vision.get(key, DEFAULTS[key])

        return VisionConfig(
            hidden=value("hidden_size"), layers=value("num_hidden_layers"),
            heads=value("num_attention_heads"), image_size=value("image_size"),
            patch=value("patch_size"), epsilon=value("layer_norm_eps"),
            stride=document.get("understand_projector_stride", 1),
            image_token=document.get("image_token_id", 128001),
        )  # fmt: skip


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float
) -> np.ndarray:
    """(x - mean) / sqrt(variance + epsilon) * weight + bias."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + epsilon) * weight + bias


def quick_gelu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(1.702 x); exp is only ever taken of what is not positive."""
    decay = np.exp(-np.abs(1.702 * x))
    return x * np.where(x >= 0, 1 / (1 + decay), decay / (1 + decay))


def keys_cubic(x: np.ndarray) -> np.ndarray:
    """The cubic kernel with a = -1/2, zero beyond 2."""
    x, a = np.abs(x), -0.5
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def bicubic_matrix(source: int, target: int) -> np.ndarray:
    """[target, source]: bicubic resizing with antialiasing, corners not aligned.

    Shrinking widens the kernel by the ratio, so that every source row counts; at the edges the
    weights that are left are scaled to sum to 1.
    """
    scale = source / target
    support = max(scale, 1.0)
    matrix = np.zeros((target, source))
    for i in range(target):
        centre, half = scale * (i + 0.5), 2.0 * support
        low = max(int(centre - half + 0.5), 0)
        high = min(int(centre + half + 0.5), source)
        weights = keys_cubic((np.arange(low, high) - centre + 0.5) / support)
        matrix[i, low:high] = weights / weights.sum()
    return matrix


def convolve(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int, padding: int = 0
) -> np.ndarray:
    """A convolution of [B, channels, h, w] with [out, channels, k, k]."""
    size = weight.shape[-1]
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]  # [B, channels, h', w', k, k]
    batch, _, height, width, _, _ = windows.shape
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(batch * height * width, -1)
    out = rows @ weight.reshape(len(weight), -1).T + bias
    return out.reshape(batch, height, width, -1).transpose(0, 3, 1, 2)


class VisionReference:
    """The vision half of a checkpoint folder."""

    def __init__(self, directory: str | Path, precision: type = np.float64) -> None:
        self.config = VisionConfig.load(Path(directory))
        self.files = Checkpoint(Path(directory))
        self.precision = precision
        nested = "model.vision_model.embeddings.class_embedding" in self.files
        self.prefix = "model." if nested else ""

    # Weights

    def weight(self, name: str) -> np.ndarray:
        """A tensor as numbers."""
        value: np.ndarray = self.files.tensor(self.prefix + name).astype(self.precision)
        return value

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        """x W^T + b."""
        return x @ self.weight(name + ".weight").T + self.weight(name + ".bias")

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        """LayerNorm with the named weight and bias."""
        weight, bias = self.weight(name + ".weight"), self.weight(name + ".bias")
        return layer_norm(x, weight, bias, self.config.epsilon)

    # The tower

    def positions(self, grid: int) -> np.ndarray:
        """The position table [1 + grid * grid, C]; row 0 is the class token's."""
        table = self.weight("vision_model.embeddings.position_embedding.weight")
        side = round(np.sqrt(len(table) - 1))
        if side == grid:
            return table
        resize = bicubic_matrix(side, grid).astype(self.precision)
        squares = table[1:].reshape(side, side, -1)
        squares = np.einsum("yh,hwc->ywc", resize, squares)
        squares = np.einsum("xw,ywc->yxc", resize, squares)
        return np.concatenate([table[:1], squares.reshape(grid * grid, -1)])

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """[B, 3, S, S] -> [B, 4 + g * g, C]: patches, class token, positions, three copies."""
        c = self.config
        patches = convolve(
            pixels, self.weight("vision_model.embeddings.patch_embedding.weight"),
            self.weight("vision_model.embeddings.patch_embedding.bias"), c.patch,
        )  # fmt: skip
        batch, grid = len(pixels), patches.shape[-1]
        patches = patches.reshape(batch, c.hidden, -1).transpose(0, 2, 1)
        token = self.weight("vision_model.embeddings.class_embedding").reshape(1, 1, c.hidden)
        x = np.concatenate([np.repeat(token, batch, axis=0), patches], axis=1)
        x = x + self.positions(grid)
        return np.concatenate([np.repeat(x[:, :1], CLASS_TOKENS - 1, axis=1), x], axis=1)

    def attention(self, x: np.ndarray, name: str) -> np.ndarray:
        """Every token attends to every token of its own view."""
        c, (batch, tokens, _) = self.config, x.shape
        if self.prefix + name + "qkv_proj.weight" in self.files:
            fused = self.linear(x, name + "qkv_proj")
        else:
            fused = np.concatenate([self.linear(x, name + f"{p}_proj") for p in "qkv"], axis=-1)
        parts = fused.reshape(batch, tokens, 3, c.heads, -1).transpose(2, 0, 3, 1, 4)
        query, key, value = parts  # [B, heads, T, d] each
        scores = query @ key.swapaxes(-1, -2) * query.shape[-1] ** -0.5
        mixed = (softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(batch, tokens, -1)
        return self.linear(mixed, name + "out_proj")

    def tower(self, pixels: np.ndarray) -> np.ndarray:
        """[B, 3, S, S] -> [B, g * g, C]; the norms are on the branches' outputs."""
        x = self.embed(pixels.astype(self.precision))
        for i in range(self.config.layers):
            layer = f"vision_model.transformer.layers.{i}."
            x = x + self.norm(self.attention(x, layer + "self_attn."), layer + "layer_norm1")
            branch = quick_gelu(self.linear(x, layer + "mlp.fc1"))
            x = x + self.norm(self.linear(branch, layer + "mlp.fc2"), layer + "layer_norm2")
        return x[:, CLASS_TOKENS:]

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """[B, 3, S, S] -> [B, n * n, D]: what stands in the place of the image tokens."""
        x = self.tower(pixels)
        batch, count, _ = x.shape
        grid = round(np.sqrt(count))
        x = x.transpose(0, 2, 1).reshape(batch, -1, grid, grid)
        names = "vit_downsampler", "vit_downsampler2"
        weights = [(self.weight(n + ".weight"), self.weight(n + ".bias")) for n in names]
        x = convolve(x, *weights[0], stride=self.config.stride)
        x = convolve(x, *weights[1], stride=2, padding=1)
        x = x.reshape(batch, x.shape[1], -1).transpose(0, 2, 1)
        x = x @ self.weight("vit_large_projector.weight").T
        if self.prefix + "vit_large_projector.bias" in self.files:
            x = x + self.weight("vit_large_projector.bias")
        return x


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Step3 image features by a NumPy reference.")
    parser.add_argument("model", type=Path, help="checkpoint folder")
    parser.add_argument("--pixels", type=Path, required=True, help="[B, 3, S, S] (.npy)")
    parser.add_argument("--out", type=Path, required=True, help="features [B, n, D] (.npy)")
    parser.add_argument("--precision", choices=["float32", "float64"], default="float64")
    arguments = parser.parse_args()
    model = VisionReference(arguments.model, getattr(np, arguments.precision))
    np.save(arguments.out, model.features(np.load(arguments.pixels)).astype(np.float32))


if __name__ == "__main__":
    main()
