#!/usr/bin/env python3
"""The source of a converted checkpoint, computed independently: a plain Llama forward pass.

    python3 llama_source.py MODEL.gguf --ids 1,2,3            greedy token and top log-probs
    python3 llama_source.py MODEL.gguf --ids-file IDS.json --logits-out OUT.npy
    python3 llama_source.py MODEL.gguf --ids-file IDS.json --perplexity [--window 256]

Reads the GGUF with the `gguf` package (its own dequantisation, nothing of ours), computes in
float32 with NumPy. Written from the Llama paper and the GGUF conventions alone: it knows nothing
of Step3. Needs: numpy, gguf.
"""
import argparse
import json
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize


class LlamaSource:
    """A Llama-family model from one GGUF file, weights in float32."""

    def __init__(self, path):
        reader = GGUFReader(path)
        self.fields = reader.fields
        arch = self.field("general.architecture")
        if arch != "llama":
            raise SystemExit(f"{path}: architecture {arch}, expected llama")
        self.layers = self.field("llama.block_count")
        self.hidden = self.field("llama.embedding_length")
        self.heads = self.field("llama.attention.head_count")
        self.groups = self.field("llama.attention.head_count_kv", self.heads)
        self.head_dim = self.field("llama.attention.key_length", self.hidden // self.heads)
        self.theta = self.field("llama.rope.freq_base", 10000.0)
        self.eps = np.float32(self.field("llama.attention.layer_norm_rms_epsilon"))
        self.weights = {}
        for tensor in reader.tensors:
            data = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            self.weights[tensor.name] = data.reshape([int(n) for n in reversed(tensor.shape)])
        self.factors = self.weights.get("rope_freqs.weight")
        self.magnitude = 1.0

    def field(self, key, default=None):
        if key not in self.fields:
            if default is None:
                raise SystemExit(f"the GGUF has no key {key}")
            return default
        return self.fields[key].contents()

    def norm(self, x, name):
        mean = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
        return x / np.sqrt(mean + self.eps) * self.weights[name]

    def rotate(self, x, first=0):
        """x [tokens, heads, head_dim] in GGUF's interleaved-pair order."""
        half = self.head_dim // 2
        frequency = self.theta ** (-np.arange(half, dtype=np.float64) / half)
        if self.factors is not None:
            frequency = frequency / np.asarray(self.factors, np.float64)
        angle = np.arange(first, first + len(x))[:, None] * frequency
        cos = (np.cos(angle) * self.magnitude).astype(np.float32)[:, None]
        sin = (np.sin(angle) * self.magnitude).astype(np.float32)[:, None]
        a, b = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2] = a * cos - b * sin
        out[..., 1::2] = b * cos + a * sin
        return out

    def attention(self, x, p):
        tokens, w = len(x), self.weights
        q = (x @ w[p + "attn_q.weight"].T).reshape(tokens, self.heads, self.head_dim)
        k = (x @ w[p + "attn_k.weight"].T).reshape(tokens, self.groups, self.head_dim)
        v = (x @ w[p + "attn_v.weight"].T).reshape(tokens, self.groups, self.head_dim)
        q, k = self.rotate(q), self.rotate(k)
        hidden = np.triu(np.ones((tokens, tokens), bool), 1)
        out = np.empty((tokens, self.heads, self.head_dim), np.float32)
        for head in range(self.heads):
            group = head * self.groups // self.heads
            score = q[:, head] @ k[:, group].T * np.float32(self.head_dim**-0.5)
            score[hidden] = -np.inf
            score = np.exp(score - score.max(-1, keepdims=True))
            out[:, head] = (score / score.sum(-1, keepdims=True)) @ v[:, group]
        return out.reshape(tokens, -1) @ w[p + "attn_output.weight"].T

    def forward(self, ids, observe=None):
        """Teacher-forced logits [tokens, vocabulary], float32. `observe(layer, place, x)` sees the
        residual stream ("residual") and the MLP input ("mlp") of every layer."""
        w = self.weights
        x = w["token_embd.weight"][np.asarray(ids)]
        for layer in range(self.layers):
            p = f"blk.{layer}."
            if observe:
                observe(layer, "residual", x)
            x = x + self.attention(self.norm(x, p + "attn_norm.weight"), p)
            h = self.norm(x, p + "ffn_norm.weight")
            if observe:
                observe(layer, "mlp", h)
            gate = h @ w[p + "ffn_gate.weight"].T
            up = h @ w[p + "ffn_up.weight"].T
            with np.errstate(over="ignore"):
                x = x + (gate / (1 + np.exp(-gate)) * up) @ w[p + "ffn_down.weight"].T
        x = self.norm(x, "output_norm.weight")
        return x @ w.get("output.weight", w["token_embd.weight"]).T


def log_softmax(logits):
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


def negative_log_likelihood(forward, ids, window=256):
    """Mean NLL of ids in windows of `window` tokens, each window predicted from its own start."""
    total, count = 0.0, 0
    for start in range(0, len(ids) - 1, window):
        piece = ids[start : start + window]
        if len(piece) < 2:
            break
        logprobs = log_softmax(forward(piece).astype(np.float64))
        total -= logprobs[np.arange(len(piece) - 1), piece[1:]].sum()
        count += len(piece) - 1
    return total / count, count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf")
    parser.add_argument("--ids", help="comma separated token ids")
    parser.add_argument("--ids-file", help="a JSON array of token ids")
    parser.add_argument("--logits-out", help="writes the logits as .npy")
    parser.add_argument("--perplexity", action="store_true")
    parser.add_argument("--window", type=int, default=256)
    arguments = parser.parse_args()
    if arguments.ids:
        ids = [int(x) for x in arguments.ids.split(",")]
    elif arguments.ids_file:
        with open(arguments.ids_file) as file:
            ids = json.load(file)
    else:
        parser.error("give --ids or --ids-file")
    model = LlamaSource(arguments.gguf)
    if arguments.perplexity:
        nll, count = negative_log_likelihood(model.forward, ids, arguments.window)
        print(json.dumps({"tokens": count, "nll": nll, "perplexity": float(np.exp(nll))}))
        return
    logits = model.forward(ids)
    if arguments.logits_out:
        np.save(arguments.logits_out, logits)
    last = log_softmax(logits[-1].astype(np.float64))
    top = np.argsort(-last)[:5]
    json.dump({"greedy": int(top[0]), "top": [[int(i), float(last[i])] for i in top]}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
