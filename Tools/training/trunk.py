"""The language model that reads the image tokens: a Llama in PyTorch, from its GGUF file.

Computes the source of the conversion (the converted checkpoint gives the same logits), because it
is smaller and faster than its Step3 form. Weights are frozen; what may be learnt are rows that
stand in for image tokens, and low-rank additions to the attention matrices.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F

ADAPTED = ("attn_q", "attn_k", "attn_v", "attn_output")
"""The matrices that may get additions, by their GGUF names."""

Cache = list[tuple[torch.Tensor, torch.Tensor]]


class Trunk:
    """A frozen Llama; matrices in `dtype`, everything between them in float32."""

    def __init__(self, gguf: str | Path, dtype: torch.dtype = torch.bfloat16):
        from gguf import GGUFReader
        from gguf.quants import dequantize

        reader = GGUFReader(gguf)
        field = {k: v.contents() for k, v in reader.fields.items() if k.startswith("llama.")}
        self.layers = field["llama.block_count"]
        self.hidden = field["llama.embedding_length"]
        self.heads = field["llama.attention.head_count"]
        self.groups = field["llama.attention.head_count_kv"]
        self.head = self.hidden // self.heads
        self.theta = field["llama.rope.freq_base"]
        self.eps = field["llama.attention.layer_norm_rms_epsilon"]
        w = {}
        for t in reader.tensors:
            value = torch.tensor(dequantize(t.data, t.tensor_type).astype("float32"))
            w[t.name] = value.reshape([int(n) for n in reversed(t.shape)])
        self.embedding = w["token_embd.weight"]
        self.matrices, self.norms = [], []
        for i in range(self.layers):
            p = f"blk.{i}."
            names = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
            self.matrices.append([w[f"{p}{n}.weight"].to(dtype) for n in names])
            self.norms.append((w[p + "attn_norm.weight"], w[p + "ffn_norm.weight"]))
        self.norm = w["output_norm.weight"]
        self.lm_head = self.embedding.to(dtype)
        self.dtype = dtype
        self.adapter: list[list[tuple[torch.Tensor, torch.Tensor]]] | None = None

    def adapt(self, rank: int, seed: int = 0) -> list[torch.Tensor]:
        """Adds low-rank matrices (zero at first) to q, k, v, o of every layer; returns them all."""
        g = torch.Generator().manual_seed(seed)
        self.adapter = []
        for matrices in self.matrices:
            pairs = []
            for m in matrices[: len(ADAPTED)]:
                down = torch.randn(rank, m.shape[1], generator=g) * m.shape[1] ** -0.5
                up = torch.zeros(m.shape[0], rank)
                pairs.append((down.requires_grad_(), up.requires_grad_()))
            self.adapter.append(pairs)
        return [x for pairs in self.adapter for pair in pairs for x in pair]

    def adapter_tensors(self) -> dict[str, torch.Tensor]:
        """The additions by name: W becomes W + up @ down, in the GGUF file's row order."""
        out = {}
        for i, pairs in enumerate(self.adapter or []):
            for name, (down, up) in zip(ADAPTED, pairs):
                out[f"adapter.{i}.{name}.down"] = down.detach()
                out[f"adapter.{i}.{name}.up"] = up.detach()
        return out

    def linear(self, x: torch.Tensor, layer: int, which: int) -> torch.Tensor:
        """One of q, k, v, o, with its addition."""
        y = x @ self.matrices[layer][which].T
        if self.adapter is None:
            return y
        down, up = self.adapter[layer][which]
        return y + (x @ down.T.to(self.dtype)) @ up.T.to(self.dtype)

    def rms(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return (x * scale * weight).to(self.dtype)

    def rotate(self, x: torch.Tensor, first: int) -> torch.Tensor:
        """x [n, heads, t, head] in interleaved pairs, positions from `first`."""
        half = self.head // 2
        frequency = self.theta ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = (torch.arange(first, first + x.shape[2])[:, None] * frequency).float()
        cos, sin = angle.cos(), angle.sin()
        a, b = x[..., 0::2].float(), x[..., 1::2].float()
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)

    def hidden_states(
        self, x: torch.Tensor, past: Cache | None = None
    ) -> tuple[torch.Tensor, Cache]:
        """Embeddings [n, t, hidden] (after `past`, of one row or n) to normed states; new cache."""
        n, t, _ = x.shape
        first = past[0][0].shape[2] if past else 0
        mask = None
        if first and t > 1:
            mask = torch.ones(t, first + t, dtype=torch.bool).tril(first)
        cache = []
        for i in range(self.layers):
            gate, up, down = self.matrices[i][len(ADAPTED) :]
            h = self.rms(x, self.norms[i][0])
            q = self.linear(h, i, 0).view(n, t, self.heads, self.head).transpose(1, 2)
            k = self.linear(h, i, 1).view(n, t, self.groups, self.head).transpose(1, 2)
            v = self.linear(h, i, 2).view(n, t, self.groups, self.head).transpose(1, 2)
            q, k = self.rotate(q, first), self.rotate(k, first)
            if past:
                k = torch.cat([past[i][0].expand(n, -1, -1, -1), k], 2)
                v = torch.cat([past[i][1].expand(n, -1, -1, -1), v], 2)
            cache.append((k, v))
            share = self.heads // self.groups
            wide_k, wide_v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
            causal = mask is None and t > 1
            y = F.scaled_dot_product_attention(q, wide_k, wide_v, attn_mask=mask, is_causal=causal)
            x = x + self.linear(y.transpose(1, 2).reshape(n, t, -1), i, 3).float()
            h = self.rms(x, self.norms[i][1])
            x = x + ((F.silu(h @ gate.T) * (h @ up.T)) @ down.T).float()
        return self.rms(x, self.norm), cache

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return (states @ self.lm_head.T).float()

    @torch.no_grad()
    def generate(self, x: torch.Tensor, past: Cache, stop: int, most: int = 24) -> list[list[int]]:
        """Greedy answers for prompts of one length [n, t, hidden] after `past`."""
        states, cache = self.hidden_states(x, past)
        out: list[list[int]] = [[] for _ in range(len(x))]
        open_rows = set(range(len(x)))
        for _ in range(most):
            token = self.logits(states[:, -1]).argmax(-1)
            for i in list(open_rows):
                if int(token[i]) == stop:
                    open_rows.discard(i)
                else:
                    out[i].append(int(token[i]))
            if not open_rows:
                break
            states, cache = self.hidden_states(self.embedding[token][:, None], cache)
        return out


class Words:
    """The trunk's tokenizer."""

    def __init__(self, folder: str | Path):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.stop = json.loads((Path(folder) / "config.json").read_text())["eos_token_id"]

    def ids(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids)


USER = "<|im_start|>user\n"
TAIL = "<|im_end|>\n<|im_start|>assistant\n"
