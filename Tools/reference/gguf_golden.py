#!/usr/bin/env python3
"""Writes the fixtures of the conversion tests: GGUF files, an HF folder, and what they become.

    python3 gguf_golden.py OUT              OUT is Tests/Fixtures/conversion

    OUT/blocks.gguf, blocks.f32     random blocks of every decodable type, and their values as the
                                    `gguf` package decodes them (Float32, tensors in file order)
    OUT/NAME.gguf | OUT/NAME/       a tiny random Llama
    OUT/NAME-step3/                 the Step3 checkpoint it must become (F32), mapped here in NumPy
                                    from the description in docs, and golden/logits.safetensors:
                                    ids and the logits of llama_source.py

The mapped checkpoints are checked here: the forward pass of step3_reference.py on them must agree
with that of the source. Needs: numpy, gguf.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from gguf.quants import dequantize, quantize
from llama_source import LlamaSource
from safetensors_io import Stored, narrow, write_file
from step3_layout import byte_alphabet
from step3_reference import Step3Reference

SEED = 20250731
CONTEXT = 256
EPSILON = float(np.float32(1e-5))

Arrays = dict[str, np.ndarray]

BLOCK_TYPES = [
    Q.F32, Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K,
    Q.Q6_K,
]  # fmt: skip
HALF_FIELDS = {
    Q.Q8_0: [0], Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q2_K: [80, 82],
    Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208],
}  # fmt: skip
"""Where a block holds Float16 scales, which must be finite."""


@dataclass(frozen=True)
class Recipe:
    """A tiny source model."""

    name: str
    hidden: int
    heads: int
    groups: int
    head_dim: int
    ffn: int
    layers: int
    vocab: int
    theta: float
    types: dict[str, Q] = field(default_factory=dict)
    tied: bool = True
    scaling: dict[str, float | str] = field(default_factory=dict)
    mixture: str = "none"
    mixture_layers: tuple[int, ...] = ()
    experts: int = 4

    def type_of(self, part: str) -> Q:
        """The encoding of a weight."""
        return self.types.get(part, self.types.get("*", Q.F32))


RECIPES = [
    Recipe(
        "gqa", 64, 4, 2, 16, 96, 3, 300, 1e5,
        {"*": Q.Q4_1, "token_embd": Q.Q8_0, "ffn_down": Q.Q5_0, "ffn_up": Q.Q5_1, "attn_v": Q.Q4_0},
        mixture="upcycled", mixture_layers=(1,),
    ),
    Recipe(
        "mha-factors", 32, 2, 2, 24, 72, 2, 290, 10000.0, {"*": Q.F16, "attn_k": Q.BF16},
        tied=False, scaling={"type": "divisors"}, mixture="exact-split", mixture_layers=(1,),
        experts=3,
    ),
    Recipe("mqa", 32, 3, 1, 16, 64, 2, 280, 10000.0, {"*": Q.F32}),
    Recipe(
        "yarn", 32, 4, 2, 32, 64, 2, 280, 10000.0, {"*": Q.Q8_0},
        scaling={"type": "yarn", "factor": 4.0, "original": 64},
    ),
    Recipe(
        "hf-llama3", 48, 6, 3, 8, 64, 2, 280, 5e5, {"*": Q.BF16},
        scaling={"type": "llama3", "factor": 8.0, "low": 1.0, "high": 4.0, "original": 32},
    ),
]  # fmt: skip

LAYER_PARTS = [
    ("attn_norm", "input_layernorm"), ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"), ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"),
]  # fmt: skip


# The source model ----------------------------------------------------------------------------


def shapes(r: Recipe) -> dict[str, tuple[int, ...]]:
    """Weight shapes by GGUF part name."""
    queries, keys = r.heads * r.head_dim, r.groups * r.head_dim
    return {
        "attn_norm": (r.hidden,), "attn_q": (queries, r.hidden), "attn_k": (keys, r.hidden),
        "attn_v": (keys, r.hidden), "attn_output": (r.hidden, queries), "ffn_norm": (r.hidden,),
        "ffn_gate": (r.ffn, r.hidden), "ffn_up": (r.ffn, r.hidden), "ffn_down": (r.hidden, r.ffn),
    }  # fmt: skip


def encoded(r: Recipe, part: str, values: np.ndarray) -> np.ndarray:
    """Values as the recipe's encoding stores them, norms always in F32."""
    kind = Q.F32 if values.ndim == 1 else r.type_of(part)
    return quantize(np.ascontiguousarray(values, np.float32), kind)


def stored_values(r: Recipe, part: str, values: np.ndarray) -> np.ndarray:
    """The values that survive the encoding."""
    kind = Q.F32 if values.ndim == 1 else r.type_of(part)
    return dequantize(encoded(r, part, values), kind).astype(np.float32).reshape(values.shape)


def source_weights(r: Recipe) -> Arrays:
    """Random weights by GGUF name, rows of q and k in HF's order of halves, as stored."""
    generator = np.random.default_rng([SEED, sum(r.name.encode())])
    weights: Arrays = {}
    table = generator.normal(0, 0.3, (r.vocab, r.hidden))
    weights["token_embd.weight"] = stored_values(r, "token_embd", table)
    for layer in range(r.layers):
        for part, shape in shapes(r).items():
            if len(shape) == 1:
                values = generator.uniform(0.05, 0.8, shape)
            else:
                values = generator.normal(0, 1.5 / np.sqrt(shape[-1]), shape)
            weights[f"blk.{layer}.{part}.weight"] = stored_values(r, part, values)
    weights["output_norm.weight"] = generator.uniform(0.5, 2, r.hidden).astype(np.float32)
    if not r.tied:
        head = generator.normal(0, 0.3, (r.vocab, r.hidden))
        weights["output.weight"] = stored_values(r, "output", head)
    return weights


def divisors(r: Recipe) -> np.ndarray:
    """What each pair's standard frequency is divided by."""
    pairs = np.arange(r.head_dim // 2)
    plain = r.theta ** (-2 * pairs / r.head_dim)
    kind = r.scaling.get("type", "none")
    if kind == "divisors":
        return (1 + 0.5 * pairs).astype(np.float32).astype(np.float64)
    if kind == "llama3":
        wave = 2 * np.pi / plain
        original, factor = r.scaling["original"], r.scaling["factor"]
        low, high = r.scaling["low"], r.scaling["high"]
        smooth = np.clip((original / wave - low) / (high - low), 0, 1)
        return 1 / (smooth + (1 - smooth) / factor)
    if kind == "yarn":
        original, factor = r.scaling["original"], r.scaling["factor"]

        def correction(turns: float) -> float:
            span = np.log(original / (turns * 2 * np.pi))
            return r.head_dim * span / (2 * np.log(r.theta))

        low = max(np.floor(correction(32)), 0)
        high = min(np.ceil(correction(1)), r.head_dim - 1)
        ramp = np.clip((pairs - low) / max(high - low, 0.001), 0, 1)
        return 1 / (ramp / factor + 1 - ramp)
    return np.ones(len(pairs))


def magnitude(r: Recipe) -> float:
    """YaRN's factor on cosines and sines."""
    return 0.1 * np.log(r.scaling["factor"]) + 1 if r.scaling.get("type") == "yarn" else 1.0


def interleaved(r: Recipe, values: np.ndarray) -> np.ndarray:
    """Rows of q or k in GGUF's order: the members of a pair side by side."""
    half = r.head_dim // 2
    return values.reshape(-1, 2, half, values.shape[-1]).swapaxes(1, 2).reshape(values.shape)


# Its files -----------------------------------------------------------------------------------


def tokens(r: Recipe) -> tuple[list[str], list[int], list[str]]:
    """A byte-level vocabulary: three control tokens, 256 bytes, merges of letters."""
    alphabet = byte_alphabet()
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet]
    merges = []
    for pair in ["t h", "th e", "Ġ t", "i n", "a n", "e r", "o n", "r e", "Ġ a", "Ġt he"]:
        if len(names) < r.vocab:
            merges.append(pair)
            names.append(pair.replace(" ", ""))
    kinds = [3] * 3 + [1] * (len(names) - 3)
    return names, kinds, merges


def write_gguf(path: Path, r: Recipe, weights: Arrays, with_divisors: np.ndarray | None) -> None:
    """The model as a GGUF file."""
    out = gguf.GGUFWriter(path, "llama")
    out.add_name(f"Tiny {r.name}")
    out.add_license("apache-2.0")
    out.add_block_count(r.layers)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(r.hidden)
    out.add_feed_forward_length(r.ffn)
    out.add_head_count(r.heads)
    out.add_head_count_kv(r.groups)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_freq_base(r.theta)
    out.add_rope_dimension_count(r.head_dim)
    out.add_key_length(r.head_dim)
    out.add_value_length(r.head_dim)
    if r.scaling.get("type") == "yarn":
        out.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        out.add_rope_scaling_factor(r.scaling["factor"])
        out.add_rope_scaling_orig_ctx_len(int(r.scaling["original"]))
    names, kinds, merges = tokens(r)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list(names)
    out.add_token_types(kinds)
    out.add_token_merges(merges)
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    if with_divisors is not None:
        out.add_tensor("rope_freqs.weight", with_divisors.astype(np.float32))
    for name, values in weights.items():
        part = name.removesuffix(".weight").split(".")[-1]
        if part in ("attn_q", "attn_k"):
            values = interleaved(r, values)
        kind = Q.F32 if values.ndim == 1 else r.type_of(part)
        out.add_tensor(name, encoded(r, part, values), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_folder(path: Path, r: Recipe, weights: Arrays) -> None:
    """The model as an HF folder."""
    path.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": r.hidden,
        "num_hidden_layers": r.layers, "num_attention_heads": r.heads,
        "num_key_value_heads": r.groups, "head_dim": r.head_dim, "intermediate_size": r.ffn,
        "vocab_size": r.vocab, "rms_norm_eps": 1e-5, "rope_theta": r.theta, "hidden_act": "silu",
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": r.tied,
        "attention_bias": False, "mlp_bias": False, "bos_token_id": 1, "eos_token_id": [2, 0],
        "rope_scaling": {
            "rope_type": "llama3", "factor": r.scaling["factor"],
            "low_freq_factor": r.scaling["low"], "high_freq_factor": r.scaling["high"],
            "original_max_position_embeddings": r.scaling["original"],
        },
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (path / "tokenizer.json").write_text('{"version": "1.0"}\n')
    (path / "LICENSE").write_text("A licence that must go along.\n")
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for layer in range(r.layers):
        for ours, theirs in LAYER_PARTS:
            names[f"blk.{layer}.{ours}"] = f"model.layers.{layer}.{theirs}"
    tensors = []
    for name, values in weights.items():
        kind = "F32" if values.ndim == 1 else "BF16"
        full = names[name.removesuffix(".weight")] + ".weight"
        tensors.append(Stored(full, kind, narrow(values, kind)))
    write_file(path / "model.safetensors", tensors)


# What it becomes -----------------------------------------------------------------------------


def attention(r: Recipe, weights: Arrays, layer: int) -> Arrays:
    """The Step3 attention of one layer, rows placed one by one."""
    n, d, wide = r.groups, r.head_dim, r.groups * r.head_dim
    p = f"blk.{layer}."
    ln, q, k = (weights[p + x + ".weight"] for x in ("attn_norm", "attn_q", "attn_k"))
    v, o = weights[p + "attn_v.weight"], weights[p + "attn_output.weight"]

    typical = float(np.mean(np.square(ln.astype(np.float64))))
    bound = np.sqrt(EPSILON * 2.0**-17 / typical)
    c = 2.0 ** min(0, np.floor(np.log2(bound)))
    gain = np.sqrt(c * c * typical + EPSILON) / c
    power = 2.0 ** np.round(np.log2(gain))
    scale = np.sqrt(n) * magnitude(r) ** 2 * gain / power

    place = np.empty((n, d), int)
    for group in range(n):
        for pair in range(d // 2):
            place[group, pair] = n * pair + group
            place[group, pair + d // 2] = wide // 2 + n * pair + group
    wide_q = np.zeros((r.heads * wide, r.hidden), np.float32)
    wide_o = np.zeros((r.hidden, r.heads * wide), np.float32)
    wide_k = np.empty((wide, r.hidden), np.float32)
    for group in range(n):
        wide_k[place[group]] = k[group * d : (group + 1) * d]
    for head in range(r.heads):
        group = head * n // r.heads
        rows = q[head * d : (head + 1) * d].astype(np.float64) * scale
        wide_q[head * wide + place[group]] = rows.astype(np.float32)
        columns = slice(head * wide + group * d, head * wide + (group + 1) * d)
        wide_o[:, columns] = o[:, head * d : (head + 1) * d]
    return {
        "input_layernorm": ln, "self_attn.q_proj": np.float32(c) * np.eye(r.hidden),
        "self_attn.k_proj": wide_k, "self_attn.v_proj": v,
        "self_attn.inter_norm": np.full(r.hidden, power), "self_attn.wq": wide_q,
        "self_attn.o_proj": wide_o,
    }  # fmt: skip


def mixture_widths(r: Recipe) -> tuple[int, int]:
    """Neurons of a routed expert and of the shared one."""
    width = r.ffn // 2 if r.mixture == "upcycled" else r.ffn * 3 // 4 // r.experts
    if width >= 32:
        width -= width % 32
    return width, r.ffn - (width if r.mixture == "upcycled" else r.experts * width)


def feed_forward(r: Recipe, weights: Arrays, layer: int) -> Arrays:
    """The Step3 feed-forward of one layer."""
    p = f"blk.{layer}."
    gate, up, down = (weights[p + f"ffn_{x}.weight"] for x in ("gate", "up", "down"))
    if layer not in r.mixture_layers:
        return {"mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": down}
    width, shared = mixture_widths(r)
    copies = r.mixture == "upcycled"
    starts = [shared + (0 if copies else e * width) for e in range(r.experts)]
    factor = np.float32(1 if copies else r.experts)
    generator = np.random.default_rng([SEED, layer])
    router = generator.normal(0, 1, (r.experts, r.hidden)) * copies
    return {
        "moe.gate": router,
        "moe.gate_proj": np.stack([gate[s : s + width] for s in starts]),
        "moe.up_proj": np.stack([up[s : s + width] for s in starts]),
        "moe.down_proj": np.stack([down[:, s : s + width] * factor for s in starts]),
        "share_expert.gate_proj": gate[:shared], "share_expert.up_proj": up[:shared],
        "share_expert.down_proj": down[:, :shared],
    }  # fmt: skip


def step3_tensors(r: Recipe, weights: Arrays) -> Arrays:
    """All tensors of the checkpoint, in file order."""
    tensors = {"model.embed_tokens.weight": weights["token_embd.weight"]}
    for layer in range(r.layers):
        parts = attention(r, weights, layer)
        parts["post_attention_layernorm"] = weights[f"blk.{layer}.ffn_norm.weight"]
        parts |= feed_forward(r, weights, layer)
        for name, values in parts.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = values
    tensors["model.norm.weight"] = weights["output_norm.weight"]
    head = weights["token_embd.weight"] if r.tied else weights["output.weight"]
    tensors["lm_head.weight"] = head
    return {name: np.ascontiguousarray(values, np.float32) for name, values in tensors.items()}


def step3_config(r: Recipe) -> dict[str, object]:
    """The facts of config.json that the forward pass depends on."""
    wide = r.groups * r.head_dim
    index = np.arange(wide // 2)
    factors = divisors(r)[index // r.groups] * r.theta ** (-2 * (index % r.groups) / wide)
    width, shared = mixture_widths(r) if r.mixture != "none" else (r.ffn, r.ffn)
    config = {
        "architectures": ["Step3TextForCausalLM"], "model_type": "step3_text",
        "hidden_size": r.hidden, "num_hidden_layers": r.layers, "num_attention_heads": r.heads,
        "num_attention_groups": 1, "head_dim": wide, "share_q_dim": r.hidden,
        "intermediate_size": r.ffn, "moe_num_experts": r.experts if r.mixture != "none" else 1,
        "moe_top_k": r.experts if r.mixture == "exact-split" else 1,
        "moe_intermediate_size": width, "share_expert_dim": shared, "norm_expert_weight": True,
        "moe_layers_enum": ",".join(map(str, r.mixture_layers)) or "-1", "vocab_size": r.vocab,
        "rms_norm_eps": 1e-5, "rope_theta": r.theta, "max_position_embedding": CONTEXT,
    }  # fmt: skip
    if not np.all(factors == 1):
        config["rope_scaling"] = {
            "rope_type": "su", "short_factor": factors.tolist(), "long_factor": factors.tolist(),
            "original_max_position_embeddings": CONTEXT,
        }  # fmt: skip
    return config


def write_model(out: Path, r: Recipe) -> None:
    """The source, its Step3 form, and the logits that both must give."""
    weights = source_weights(r)
    kind = r.scaling.get("type", "none")
    in_folder = r.name.startswith("hf-")
    path = out / f"{r.name}.gguf"
    write_gguf(path, r, weights, divisors(r) if kind in ("divisors", "llama3") else None)
    folder = out / f"{r.name}-step3"
    folder.mkdir()
    tensors = step3_tensors(r, weights)
    stored = [Stored(name, "F32", values) for name, values in tensors.items()]
    write_file(folder / "model.safetensors", stored)
    (folder / "config.json").write_text(json.dumps(step3_config(r), indent=1) + "\n")

    ids = np.random.default_rng(SEED).integers(0, r.vocab, 24).astype(np.int32)
    source = LlamaSource(str(path))
    if kind == "yarn":
        source.factors, source.magnitude = divisors(r), magnitude(r)
    logits = source.forward(ids)
    found = Step3Reference(folder).logits(ids.tolist())
    difference = float(np.abs(found - logits).max())
    print(f"{r.name}: largest logit difference {difference:.2e} of {np.abs(logits).max():.1f}")
    assert difference < 2e-5 * np.abs(logits).max(), "the mapping is not exact"
    (folder / "golden").mkdir()
    golden = [Stored("ids", "I32", ids), Stored("logits", "F32", logits.astype(np.float32))]
    write_file(folder / "golden" / "logits.safetensors", golden)
    if in_folder:
        path.unlink()
        write_folder(out / r.name, r, weights)


def write_blocks(out: Path) -> None:
    """Random blocks of every type: 2 rows of 512 elements."""
    generator = np.random.default_rng(SEED)
    writer = gguf.GGUFWriter(out / "blocks.gguf", "blocks")
    values = []
    for kind in BLOCK_TYPES:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        if kind in HALF_FIELDS:
            data = generator.integers(0, 256, (1024 // elements, size), np.uint8)
            for place in HALF_FIELDS[kind]:
                halves = generator.normal(0, 0.1, len(data)).astype(np.float16)
                data[:, place : place + 2] = halves.view(np.uint8).reshape(-1, 2)
        else:
            data = quantize(generator.normal(0, 1, 1024).astype(np.float32), kind).view(np.uint8)
        data = data.reshape(2, -1)
        writer.add_tensor(f"{kind.name}.weight", data, raw_dtype=kind)
        typed = data.view({Q.F32: np.float32, Q.F16: np.float16}.get(kind, np.uint8))
        values.append(dequantize(typed, kind).astype(np.float32).ravel())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    np.concatenate(values).tofile(out / "blocks.f32")


def main() -> None:
    """Writes everything anew."""
    out = Path(sys.argv[1])
    for path in out.glob("*"):
        if path.name != "README.md":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    out.mkdir(parents=True, exist_ok=True)
    write_blocks(out)
    for recipe in RECIPES:
        write_model(out, recipe)
    lines = []
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        if path.name not in ("README.md", "CHECKSUMS"):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"{digest}  {path.relative_to(out)}")
    (out / "CHECKSUMS").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
