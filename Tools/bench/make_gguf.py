#!/usr/bin/env python3
"""Random weights for llama.cpp with the bytes and multiply-adds of one of our benchmark shapes.

    python make_gguf.py step3-mini-1b OUT.gguf          BF16; needs numpy and gguf

llama.cpp has no Step3. Its "step35" network comes closest: dense and mixture layers in any order,
an unnormalised softmax router, a shared expert, one key head, head size apart from hidden size. The
query projection is one full matrix, so the number of heads is the one at which attention has as many
weights as the Step3 shape. Every layer is marked sliding, with a window of the whole context: the
network insists on one such layer and halves the rotary size of the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

TOOLS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOOLS / "checkpoints"), str(TOOLS / "reference")]

import step3_layout as layout  # noqa: E402
from make_checkpoint import SHAPES  # noqa: E402
from safetensors_io import f32_to_bf16  # noqa: E402
from step3_layout import Shape  # noqa: E402

HEADS = {"step3-mini-60m": 7, "step3-mini-1b": 6, "step3-mini-4b": 11, "step3-slice2": 45}
Plan = tuple[str, tuple[int, ...], float]


def tensors(s: Shape, heads: int) -> Iterator[Plan]:
    """Name, shape, and the inputs per output; 0 is a norm of ones, negative is a router."""
    wide = heads * s.head_dim
    yield "token_embd.weight", (s.vocabulary, s.hidden), 1.0
    for i in range(s.layers):
        p = f"blk.{i}."
        yield p + "attn_norm.weight", (s.hidden,), 0
        yield p + "attn_q.weight", (wide, s.hidden), s.hidden
        yield p + "attn_k.weight", (s.head_dim, s.hidden), s.hidden
        yield p + "attn_v.weight", (s.head_dim, s.hidden), s.hidden
        yield p + "attn_output.weight", (s.hidden, wide), wide
        yield p + "ffn_norm.weight", (s.hidden,), 0
        if i in s.dense:
            yield p + "ffn_gate.weight", (s.ffn, s.hidden), s.hidden
            yield p + "ffn_up.weight", (s.ffn, s.hidden), s.hidden
            yield p + "ffn_down.weight", (s.hidden, s.ffn), s.ffn
            continue
        yield p + "ffn_gate_inp.weight", (s.experts, s.hidden), -s.hidden
        for suffix, lead, width in (("exps", (s.experts,), s.expert_width),
                                    ("shexp", (), s.shared_width)):  # fmt: skip
            yield f"{p}ffn_gate_{suffix}.weight", (*lead, width, s.hidden), s.hidden
            yield f"{p}ffn_up_{suffix}.weight", (*lead, width, s.hidden), s.hidden
            yield f"{p}ffn_down_{suffix}.weight", (*lead, s.hidden, width), width
    yield "output_norm.weight", (s.hidden,), 0
    yield "output.weight", (s.vocabulary, s.hidden), s.hidden / 16


def describe(w: gguf.GGUFWriter, name: str, s: Shape, heads: int) -> None:
    """The file's facts and a vocabulary of bytes and fillers."""
    w.add_name(name + "-like")
    w.add_block_count(s.layers)
    w.add_context_length(65536)
    w.add_embedding_length(s.hidden)
    w.add_feed_forward_length(s.ffn)
    w.add_head_count([heads] * s.layers)
    w.add_head_count_kv([1] * s.layers)
    w.add_key_length(s.head_dim)
    w.add_value_length(s.head_dim)
    w.add_rope_dimension_count(s.head_dim)
    w.add_rope_freq_base(500000.0)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_expert_count(s.experts)
    w.add_expert_used_count(s.top_k)
    w.add_expert_feed_forward_length(s.expert_width)
    w.add_expert_shared_feed_forward_length(s.shared_width)
    w.add_expert_weights_norm(False)
    w.add_expert_weights_scale(1.0)
    w.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX)
    w.add_leading_dense_block_count(1)
    w.add_sliding_window(65536)
    w.add_sliding_window_pattern([True] * s.layers)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    words = layout.byte_alphabet() + layout.SPECIAL_TOKENS
    words += [f"<t{i}>" for i in range(len(words), s.vocabulary)]
    special = len(layout.SPECIAL_TOKENS)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(words)
    w.add_token_types([1] * 256 + [3] * special + [1] * (s.vocabulary - 256 - special))
    w.add_token_merges(["a b"])
    w.add_bos_token_id(256)
    w.add_eos_token_id(257)
    w.add_add_bos_token(False)


def main() -> None:
    """The command line."""
    name, out = sys.argv[1:3]
    s, heads = SHAPES[name], HEADS[name]
    w = gguf.GGUFWriter(out, "step35")
    describe(w, name, s, heads)
    plans = list(tensors(s, heads))
    for tensor, shape, inputs in plans:
        wide = inputs <= 0
        kind = gguf.GGMLQuantizationType.F32 if wide else gguf.GGMLQuantizationType.BF16
        count = int(np.prod(shape)) * (4 if wide else 2)
        element = np.dtype(np.float32 if wide else np.uint16)
        w.add_tensor_info(tensor, list(shape), element, count, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    # One pool of numbers, read from another place for each tensor.
    pool = np.random.default_rng(7).standard_normal(1 << 24, dtype=np.float32)
    for tensor, shape, inputs in plans:
        if inputs == 0:
            w.write_tensor_data(np.ones(shape, np.float32))
            continue
        gain = abs(inputs) ** -0.5 * (2 if inputs < 0 else 1)
        values = np.roll(pool, layout.name_hash(tensor) % len(pool)) * np.float32(gain)
        values = values if inputs < 0 else f32_to_bf16(values)
        w.write_tensor_data(np.resize(values, int(np.prod(shape))).reshape(shape))
    w.close()


if __name__ == "__main__":
    main()
