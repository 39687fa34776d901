#!/usr/bin/env python3
"""The text model of Step3 in NumPy: the oracle that the engine is compared with.

    python3 step3_reference.py MODEL --ids 1,2,3 --out logits.npy

Written from the published description of the architecture for the eye, not for speed. All
positions are computed at once (teacher forcing). Weights are widened exactly: BF16 to float32,
block-FP8 to `code * scale` (W8A16: activations are never quantised). Arithmetic is float64
unless `--precision float32` is given.

Shapes: T tokens, D hidden, H heads, d head dimension, Q shared query dimension, V vocabulary.
Every linear is y = x W^T without bias.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors_io import Checkpoint

DEFAULTS: dict[str, Any] = {
    "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 64,
    "num_attention_groups": 1, "head_dim": 256, "share_q_dim": 2048,
    "intermediate_size": 18432, "moe_num_experts": 48, "moe_top_k": 3,
    "moe_intermediate_size": 5120, "share_expert_dim": 5120, "norm_expert_weight": False,
    "moe_layers_enum": ",".join(str(i) for i in range(4, 60)), "vocab_size": 128815,
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embedding": 65536,
}  # fmt: skip
"""What an absent key of the text configuration means."""


# Configuration -------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextConfig:
    """The facts of the text model, nested or flat in config.json."""

    hidden: int
    layers: int
    heads: int
    head_dim: int
    query_dim: int
    experts: int
    top_k: int
    normalise_weights: bool
    moe_layers: frozenset[int]
    vocabulary: int
    epsilon: float
    theta: float
    rope: dict[str, Any]
    max_positions: int

    @staticmethod
    def load(directory: Path) -> TextConfig:
        """Reads config.json; absent keys take the class defaults."""
        document = json.loads((directory / "config.json").read_text())
        text = document.get("text_config")
        if text is None:
            text = {} if document.get("model_type") == "step3_vl" else document

        def value(key: str) -> Any:
            return text.get(key, DEFAULTS[key])

        if value("num_attention_groups") != 1:
            raise ValueError("num_attention_groups must be 1: the architecture has one key head")
        rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
        theta = (text.get("rope_parameters") or {}).get("rope_theta", value("rope_theta"))
        names = ("max_position_embedding", "max_position_embeddings", "max_seq_len")
        positions = next((text[name] for name in names if text.get(name)), None)
        layers = value("num_hidden_layers")
        return TextConfig(
            hidden=value("hidden_size"), layers=layers, heads=value("num_attention_heads"),
            head_dim=value("head_dim"), query_dim=value("share_q_dim") or value("head_dim"),
            experts=value("moe_num_experts"), top_k=value("moe_top_k"),
            normalise_weights=value("norm_expert_weight"),
            moe_layers=parse_moe_layers(value("moe_layers_enum"), layers),
            vocabulary=value("vocab_size"), epsilon=value("rms_norm_eps"), theta=float(theta),
            rope=dict(rope), max_positions=positions or DEFAULTS["max_position_embedding"],
        )  # fmt: skip


def parse_moe_layers(value: str | list[int] | None, layers: int) -> frozenset[int]:
    """Which layers are mixtures: "4,5,6", [4, 5, 6], null (all but layer 0), "" or "-1" (none)."""
    if value is None:
        return frozenset(range(1, layers))
    if isinstance(value, str):
        value = [int(piece) for piece in value.split(",") if piece.strip()]
    return frozenset(i for i in value if 0 <= i < layers)


# Position encoding ---------------------------------------------------------------------------


def rope_frequencies(config: TextConfig) -> tuple[np.ndarray, float]:
    """Inverse frequencies [d/2] and the factor on cos and sin.

    "longrope" (formerly "su") divides every frequency by a factor of its own and stretches cos
    and sin by sqrt(1 + ln(scale) / ln(original)), scale being `factor` or else the configured
    context over the original one. The long list applies to the whole model when its context
    exceeds the original, as vLLM has it; transformers picks the list anew for each length of the
    sequence, which would change the keys of earlier tokens.
    """
    exponent = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    frequencies = config.theta**-exponent
    rope = config.rope
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return frequencies, 1.0
    if kind == "linear":
        return frequencies / rope["factor"], 1.0
    if kind not in ("longrope", "su"):
        raise ValueError(f"rope type {kind!r} is not known")
    original = rope.get("original_max_position_embeddings") or config.max_positions
    scale = rope.get("factor") or config.max_positions / original
    attention = rope.get("attention_factor")
    if attention is None:
        attention = 1.0 if scale <= 1 else math.sqrt(1 + math.log(scale) / math.log(original))
    factors = rope["long_factor" if config.max_positions > original else "short_factor"]
    if len(factors) != config.head_dim // 2:
        raise ValueError(f"{len(factors)} rope factors, head_dim / 2 is {config.head_dim // 2}")
    return frequencies / np.asarray(factors, np.float64), attention


def rotate(x: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Rotates dimension i of the last axis with dimension i + d/2."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate(
        [first * cosine - second * sine, second * cosine + first * sine], axis=-1
    )


# The network ---------------------------------------------------------------------------------


def rms_norm(x: np.ndarray, weight: np.ndarray, epsilon: float) -> np.ndarray:
    """x / sqrt(mean(x^2) + epsilon) * weight."""
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def silu(x: np.ndarray) -> np.ndarray:
    """x * sigmoid(x); exp is only ever taken of what is not positive."""
    decay = np.exp(-np.abs(x))
    return x * np.where(x >= 0, 1 / (1 + decay), decay / (1 + decay))


def softmax(x: np.ndarray) -> np.ndarray:
    """Along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@dataclass
class Trace:
    """What happened on the way, per layer; filled when handed to `Step3Reference.logits`."""

    hidden: list[np.ndarray] = field(default_factory=list)
    """The residual stream after each layer, [T, D]."""
    experts: dict[int, np.ndarray] = field(default_factory=dict)
    """The chosen experts of each mixture layer, most probable first, [T, K]."""
    weights: dict[int, np.ndarray] = field(default_factory=dict)
    """Their weights, [T, K]."""
    margins: dict[int, np.ndarray] = field(default_factory=dict)
    """Router logit of the last chosen expert minus that of the first refused one, [T]."""


class Step3Reference:
    """A checkpoint folder and the forward pass over it."""

    def __init__(
        self, directory: str | Path, precision: type = np.float64, keep_weights: bool = True
    ) -> None:
        self.directory = Path(directory)
        self.config = TextConfig.load(self.directory)
        self.files = Checkpoint(self.directory)
        self.precision = precision
        nested = "model.language_model.embed_tokens.weight" in self.files
        self.prefix = "model.language_model." if nested else "model."
        self._kept: dict[tuple[str, int | None], np.ndarray] | None = {} if keep_weights else None

    # Weights

    def weight(self, name: str, part: int | None = None) -> np.ndarray:
        """A weight as numbers; block-FP8 is dequantised wherever a scale tensor goes with it."""
        key = (name, part)
        if self._kept is not None and key in self._kept:
            return self._kept[key]
        value: np.ndarray = self.files.tensor(name, part).astype(self.precision)
        if name + "_scale_inv" in self.files:
            scales: np.ndarray = self.files.tensor(name + "_scale_inv", part)
            rows, columns = value.shape
            scales = scales.repeat(128, axis=0)[:rows].repeat(128, axis=1)[:, :columns]
            value = value * scales.astype(self.precision)
        if self._kept is not None:
            self._kept[key] = value
        return value

    def linear(self, x: np.ndarray, name: str, part: int | None = None) -> np.ndarray:
        """x W^T."""
        return x @ self.weight(name, part).T

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        """RMSNorm with the named weight."""
        return rms_norm(x, self.weight(name), self.config.epsilon)

    def gated(self, x: np.ndarray, name: str, part: int | None = None) -> np.ndarray:
        """down(silu(gate(x)) * up(x)): a dense MLP, the shared expert, or one routed expert."""
        gate = silu(self.linear(x, name + "gate_proj.weight", part))
        up = self.linear(x, name + "up_proj.weight", part)
        return self.linear(gate * up, name + "down_proj.weight", part)

    # Layers

    def attention(
        self, x: np.ndarray, layer: str, cosine: np.ndarray, sine: np.ndarray
    ) -> np.ndarray:
        """Multi-matrix factorisation attention: all query heads share one key and value head."""
        c, tokens, name = self.config, len(x), layer + "self_attn."
        query = self.norm(self.linear(x, name + "q_proj.weight"), name + "inter_norm.weight")
        query = self.linear(query, name + "wq.weight")  # [T, H * d]
        query = query.reshape(tokens, c.heads, c.head_dim).swapaxes(0, 1)  # [H, T, d]
        key = self.linear(x, name + "k_proj.weight")  # [T, d]
        value = self.linear(x, name + "v_proj.weight")  # [T, d]
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        scores = query @ key.T * c.head_dim**-0.5  # [H, T, T]
        future = np.triu(np.ones((tokens, tokens), bool), k=1)
        mixed = softmax(np.where(future, -np.inf, scores)) @ value  # [H, T, d]
        return self.linear(mixed.swapaxes(0, 1).reshape(tokens, -1), name + "o_proj.weight")

    def mixture(self, x: np.ndarray, layer: int, name: str, trace: Trace | None) -> np.ndarray:
        """The routed experts: softmax over all, then the top k, lower index first on a tie."""
        c = self.config
        scores = self.linear(x, name + "gate.weight")  # [T, E]
        probabilities = softmax(scores)
        order = np.argsort(-probabilities, axis=-1, kind="stable")
        chosen = order[:, : c.top_k]
        weights = np.take_along_axis(probabilities, chosen, axis=-1)
        if c.normalise_weights:
            weights = weights / weights.sum(axis=-1, keepdims=True)
        if trace is not None:
            trace.experts[layer], trace.weights[layer] = chosen, weights
            if c.top_k < c.experts:
                ranked = np.take_along_axis(scores, order, axis=-1)
                trace.margins[layer] = ranked[:, c.top_k - 1] - ranked[:, c.top_k]
        out = np.zeros_like(x)
        for expert in np.unique(chosen):
            rows, slot = np.nonzero(chosen == expert)
            out[rows] += weights[rows, slot, None] * self.gated(x[rows], name, int(expert))
        return out

    def logits(
        self, ids: list[int], trace: Trace | None = None, features: np.ndarray | None = None,
        image_token: int = 128001,
    ) -> np.ndarray:  # fmt: skip
        """Logits [T, V] after each of the given tokens.

        Rows of `features` [N, D] stand in the place of the embeddings of the N image tokens.
        """
        c, ids_array = self.config, np.asarray(ids, np.int64)
        if len(ids) == 0 or ids_array.min() < 0 or ids_array.max() >= c.vocabulary:
            raise ValueError(f"token ids must be 0..{c.vocabulary - 1}, and at least one")
        frequencies, factor = rope_frequencies(c)
        angles = np.arange(len(ids), dtype=np.float64)[:, None] * frequencies
        cosine = (np.cos(angles) * factor).astype(self.precision)
        sine = (np.sin(angles) * factor).astype(self.precision)
        hidden = self.weight(self.prefix + "embed_tokens.weight")[ids_array]
        if features is not None:
            hidden[ids_array == image_token] = features
        for i in range(c.layers):
            layer = f"{self.prefix}layers.{i}."
            x = self.norm(hidden, layer + "input_layernorm.weight")
            hidden = hidden + self.attention(x, layer, cosine, sine)
            x = self.norm(hidden, layer + "post_attention_layernorm.weight")
            if i in c.moe_layers:
                shared = self.gated(x, layer + "share_expert.")
                hidden = hidden + (shared + self.mixture(x, i, layer + "moe.", trace))
            else:
                hidden = hidden + self.gated(x, layer + "mlp.")
            if trace is not None:
                trace.hidden.append(hidden)
        head = "lm_head.weight"
        if head not in self.files:  # tied only when the file has no head of its own
            head = self.prefix + "embed_tokens.weight"
        return self.linear(self.norm(hidden, self.prefix + "norm.weight"), head)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Step3 text logits by a NumPy reference.")
    parser.add_argument("model", type=Path, help="checkpoint folder")
    parser.add_argument("--ids", required=True, help="token ids, comma separated, or @FILE.json")
    parser.add_argument("--out", type=Path, help="where to write the logits (.npy, float32)")
    parser.add_argument("--precision", choices=["float32", "float64"], default="float64")
    arguments = parser.parse_args()
    if arguments.ids.startswith("@"):
        document = json.loads(Path(arguments.ids[1:]).read_text())
        ids = document["ids"] if isinstance(document, dict) else document
    else:
        ids = [int(piece) for piece in arguments.ids.split(",")]
    model = Step3Reference(arguments.model, getattr(np, arguments.precision), keep_weights=False)
    logits = model.logits(ids)
    if arguments.out:
        np.save(arguments.out, logits.astype(np.float32))
    for position, row in enumerate(logits):
        top = np.argsort(-row, kind="stable")[:3]
        print(position, ids[position], " ".join(f"{t}:{row[t]:.6f}" for t in top))


if __name__ == "__main__":
    main()
