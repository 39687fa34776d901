"""The layout of Step3 checkpoints with seeded random weights: names, shapes, configurations.

Every value is a pure function of (seed, tensor name, index), so that any language can
regenerate a tensor without reading a file:

    h    = FNV-1a-64(utf8 name) xor (seed * 0x9E3779B97F4A7C15)
    z(i) = splitmix64 output for state h + (i + 1) * 0x9E3779B97F4A7C15
    u(i) = (z(i) >> 40) / 2^23 - 1            24 bits, uniform on [-1, 1)
    w(i) = mean + u(i) * half_width           then rounded to the stored dtype

half_width is sqrt(3) * gain / sqrt(fan_in) for matrices (unit variance out for unit variance in
at gain 1), 0.1 around 1 for norm weights. The head's gain sets the spread of the logits, the
router's gain of 2 keeps the choice of experts clear.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

GOLDEN_RATIO = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1
ROOT_3 = math.sqrt(3.0)

SPECIAL_TOKENS = [
    "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|BOT|>", "<|EOT|>", "<think>",
    "</think>", "<｜tool_calls_begin｜>", "<｜tool_calls_end｜>", "<｜tool_call_begin｜>",
    "<｜tool_call_end｜>", "<｜tool_sep｜>", "<im_start>", "<im_patch>", "<im_end>",
    "<patch_start>", "<patch_end>", "<patch_newline>",
]  # fmt: skip
"""Ids 256 and up of the byte-level tokenizer; ids 0..255 are the bytes."""

TOKEN_ID = {token: 256 + i for i, token in enumerate(SPECIAL_TOKENS)}


@dataclass(frozen=True)
class Shape:
    """The dimensions of a text model."""

    hidden: int
    layers: int
    dense: tuple[int, ...]
    ffn: int
    heads: int
    head_dim: int
    query_dim: int
    experts: int
    top_k: int
    expert_width: int
    shared_width: int
    vocabulary: int

    @property
    def moe_layers(self) -> list[int]:
        """The mixture layers, in order."""
        return [i for i in range(self.layers) if i not in self.dense]


@dataclass(frozen=True)
class VisionShape:
    """The dimensions of a vision tower."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    image_size: int
    patch_size: int
    output: int
    stride: int = 2
    """Of the first convolution after the tower."""
    projector_bias: bool = False
    separate_queries: bool = False
    """Whether q_proj, k_proj and v_proj are tensors of their own."""
    flat_class_token: bool = False
    """Whether class_embedding is [C] and not [1, C]."""
    epsilon: float = 1e-5


@dataclass(frozen=True)
class TensorPlan:
    """One tensor before it is rounded: w = mean + u * half_width.

    `kind` is linear (may be quantised), expert (a linear stacked over experts), router, norm,
    embedding or vision.
    """

    name: str
    shape: tuple[int, ...]
    mean: float
    half_width: float
    kind: str


# Values --------------------------------------------------------------------------------------


def name_hash(name: str) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def uniform(name: str, seed: int, start: int, count: int) -> np.ndarray:
    """u(start) .. u(start + count - 1) of a tensor, float32."""
    state = (name_hash(name) ^ (seed * GOLDEN_RATIO)) & MASK
    with np.errstate(over="ignore"):
        z = np.arange(start + 1, start + count + 1, dtype=np.uint64)
        z *= np.uint64(GOLDEN_RATIO)
        z += np.uint64(state)
        shifted = z >> np.uint64(30)
        z ^= shifted
        z *= np.uint64(0xBF58476D1CE4E5B9)
        np.right_shift(z, np.uint64(27), out=shifted)
        z ^= shifted
        z *= np.uint64(0x94D049BB133111EB)
        np.right_shift(z, np.uint64(31), out=shifted)
        z ^= shifted
        z >>= np.uint64(40)
    values = z.astype(np.float32)
    values *= np.float32(2.0**-23)
    values -= np.float32(1.0)
    return values


def values(plan: TensorPlan, seed: int, start: int = 0, count: int | None = None) -> np.ndarray:
    """Elements `start ..< start + count` (default: all) of a tensor, flat float32."""
    total = int(np.prod(plan.shape, dtype=np.int64))
    result = uniform(plan.name, seed, start, total if count is None else count)
    result *= np.float32(plan.half_width)
    if plan.mean:
        result += np.float32(plan.mean)
    return result


# Tensors -------------------------------------------------------------------------------------


def spread(fan_in: int, gain: float = 1.0) -> float:
    """The half width that keeps the variance times gain squared."""
    return ROOT_3 * gain / math.sqrt(fan_in)


def linear(name: str, rows: int, columns: int, gain: float = 1.0) -> TensorPlan:
    """A matrix [rows, columns]."""
    return TensorPlan(name, (rows, columns), 0.0, spread(columns, gain), "linear")


def norm(name: str, width: int) -> TensorPlan:
    """A norm weight around 1."""
    return TensorPlan(name, (width,), 1.0, 0.1, "norm")


def gated(name: str, hidden: int, width: int) -> Iterator[TensorPlan]:
    """The three matrices of a gated MLP."""
    yield linear(name + "gate_proj.weight", width, hidden)
    yield linear(name + "up_proj.weight", width, hidden)
    yield linear(name + "down_proj.weight", hidden, width, 2.0)


def experts(name: str, s: Shape) -> Iterator[TensorPlan]:
    """The router and the stacked experts."""
    router_width = spread(s.hidden, 2.0)
    yield TensorPlan(name + "gate.weight", (s.experts, s.hidden), 0.0, router_width, "router")
    for projection in gated(name, s.hidden, s.expert_width):
        shape = (s.experts, *projection.shape)
        yield TensorPlan(projection.name, shape, 0.0, projection.half_width, "expert")


def text_tensors(s: Shape, head_gain: float) -> Iterator[TensorPlan]:
    """Every tensor of the language model, in file order."""
    embedding = (s.vocabulary, s.hidden)
    yield TensorPlan("model.embed_tokens.weight", embedding, 0.0, ROOT_3, "embedding")
    for i in range(s.layers):
        layer = f"model.layers.{i}."
        attention = layer + "self_attn."
        yield norm(layer + "input_layernorm.weight", s.hidden)
        yield linear(attention + "q_proj.weight", s.query_dim, s.hidden)
        yield linear(attention + "k_proj.weight", s.head_dim, s.hidden)
        yield linear(attention + "v_proj.weight", s.head_dim, s.hidden)
        yield norm(attention + "inter_norm.weight", s.query_dim)
        yield linear(attention + "wq.weight", s.heads * s.head_dim, s.query_dim)
        yield linear(attention + "o_proj.weight", s.hidden, s.heads * s.head_dim)
        yield norm(layer + "post_attention_layernorm.weight", s.hidden)
        if i in s.dense:
            yield from gated(layer + "mlp.", s.hidden, s.ffn)
        else:
            yield from experts(layer + "moe.", s)
            yield from gated(layer + "share_expert.", s.hidden, s.shared_width)
    yield norm("model.norm.weight", s.hidden)
    head_width = spread(s.hidden, head_gain)
    yield TensorPlan("lm_head.weight", embedding, 0.0, head_width, "embedding")


def vision_tensors(v: VisionShape, text_hidden: int) -> Iterator[TensorPlan]:
    """Every tensor of the vision tower and the projector, in file order."""
    c, patch = v.hidden, v.patch_size

    def weight(name: str, shape: tuple[int, ...]) -> TensorPlan:
        fan_in = int(np.prod(shape[1:]))
        return TensorPlan(name + ".weight", shape, 0.0, spread(fan_in), "vision")

    def bias(name: str, width: int) -> TensorPlan:
        return TensorPlan(name + ".bias", (width,), 0.0, 0.1, "vision")

    start = "vision_model.embeddings."
    positions = (v.image_size // patch) ** 2 + 1
    class_token = (c,) if v.flat_class_token else (1, c)
    yield TensorPlan(start + "class_embedding", class_token, 0.0, 1.0, "vision")
    yield weight(start + "patch_embedding", (c, 3, patch, patch))
    yield bias(start + "patch_embedding", c)
    yield TensorPlan(start + "position_embedding.weight", (positions, c), 0.0, 0.5, "vision")
    for i in range(v.layers):
        layer = f"vision_model.transformer.layers.{i}."
        queries = [("self_attn.qkv_proj", 3 * c, c)]
        if v.separate_queries:
            queries = [(f"self_attn.{part}_proj", c, c) for part in "qkv"]
        for name, rows, columns in (
            *queries, ("self_attn.out_proj", c, c),
            ("mlp.fc1", v.ffn, c), ("mlp.fc2", c, v.ffn),
        ):  # fmt: skip
            yield weight(layer + name, (rows, columns))
            yield bias(layer + name, rows)
        for name in ("layer_norm1", "layer_norm2"):
            yield TensorPlan(layer + name + ".weight", (c,), 1.0, 0.1, "vision")
            yield bias(layer + name, c)
    yield weight("vit_downsampler", (v.output, c, 2, 2))
    yield bias("vit_downsampler", v.output)
    yield weight("vit_downsampler2", (2 * v.output, v.output, 3, 3))
    yield bias("vit_downsampler2", 2 * v.output)
    yield weight("vit_large_projector", (text_hidden, 2 * v.output))
    if v.projector_bias:
        yield bias("vit_large_projector", text_hidden)


# Documents -----------------------------------------------------------------------------------


def text_config(s: Shape, torch_dtype: str) -> dict[str, Any]:
    """The configuration of a text-only checkpoint."""
    return {
        "architectures": ["Step3TextForCausalLM"], "model_type": "step3_text",
        "hidden_size": s.hidden, "intermediate_size": s.ffn,
        "num_attention_heads": s.heads, "num_attention_groups": 1,
        "num_hidden_layers": s.layers, "head_dim": s.head_dim, "share_q_dim": s.query_dim,
        "max_seq_len": 65536, "max_position_embedding": 65536,
        "vocab_size": s.vocabulary, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "rope_scaling": None, "moe_intermediate_size": s.expert_width,
        "moe_num_experts": s.experts, "moe_top_k": s.top_k,
        "share_expert_dim": s.shared_width, "norm_expert_weight": False,
        "moe_layers_enum": ",".join(map(str, s.moe_layers)) or "-1",
        "tie_word_embeddings": False, "torch_dtype": torch_dtype,
        "bos_token_id": TOKEN_ID["<｜begin▁of▁sentence｜>"],
        "eos_token_id": TOKEN_ID["<|EOT|>"],
    }  # fmt: skip


def vision_config(v: VisionShape) -> dict[str, Any]:
    """The configuration of a vision tower."""
    return {
        "model_type": "step3_vision_encoder", "hidden_size": v.hidden,
        "intermediate_size": v.ffn, "num_hidden_layers": v.layers,
        "num_attention_heads": v.heads, "num_channels": 3, "image_size": v.image_size,
        "patch_size": v.patch_size, "output_hidden_size": v.output,
        "hidden_act": "quick_gelu", "layer_norm_eps": v.epsilon,
    }  # fmt: skip


def multimodal_config(text: dict[str, Any], v: VisionShape) -> dict[str, Any]:
    """The nested configuration of a checkpoint with a vision tower."""
    return {
        "architectures": ["Step3VLForConditionalGeneration"], "model_type": "step3_vl",
        "text_config": text, "vision_config": vision_config(v),
        "understand_projector_stride": v.stride, "projector_bias": v.projector_bias,
        "image_token_id": TOKEN_ID["<im_patch>"], "hidden_size": text["hidden_size"],
        "torch_dtype": text["torch_dtype"], "bos_token_id": text["bos_token_id"],
        "eos_token_id": text["eos_token_id"],
    }  # fmt: skip


FP8_CONFIG = {
    "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
    "weight_block_size": [128, 128],
}  # fmt: skip
"""The quantization_config of a block-FP8 checkpoint."""


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def byte_tokenizer() -> dict[str, Any]:
    """A tokenizer.json whose tokens are the 256 bytes and the special tokens; no merges."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {
                "id": TOKEN_ID[token], "content": token, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": "think" not in token,
            }
            for token in SPECIAL_TOKENS
        ],
        "normalizer": None, "pre_tokenizer": {**byte_level, "use_regex": False},
        "post_processor": None, "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {character: byte for byte, character in enumerate(byte_alphabet())},
            "merges": [],
        },
    }  # fmt: skip


def tokenizer_config() -> dict[str, Any]:
    """The tokenizer_config.json that goes with `byte_tokenizer`; it names no chat template."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL_TOKENS[0],
        "eos_token": "<|EOT|>", "model_max_length": 65536,
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip
