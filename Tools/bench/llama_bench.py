#!/usr/bin/env python3
"""llama.cpp through llama-cpp-python: tokens per second, one JSON object per batch.

    python llama_bench.py MODEL.gguf THREADS PROMPT STEPS BATCH[,BATCH…]

Run by compare.py. Also `python llama_bench.py quantize MODEL.gguf OUT.gguf q8_0|q4_0`.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time

import llama_cpp as ll


def quantize(source: str, target: str, name: str) -> None:
    """Writes a file with 8 or 4 bits per weight."""
    options = ll.llama_model_quantize_default_params()
    options.ftype = {"q8_0": ll.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": ll.LLAMA_FTYPE_MOSTLY_Q4_0}[name]
    if ll.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(options)) != 0:
        raise SystemExit(f"{source}: cannot be quantised")


class Batch:
    """Tokens of the next call."""

    def __init__(self, limit: int) -> None:
        self.batch = ll.llama_batch_init(limit, 0, 1)
        self.limit = limit

    def add(self, token: int, position: int, sequence: int, wants_logits: bool) -> None:
        b, i = self.batch, self.batch.n_tokens
        b.token[i], b.pos[i], b.n_seq_id[i] = token, position, 1
        b.seq_id[i][0], b.logits[i] = sequence, wants_logits
        b.n_tokens = i + 1

    def run(self, context: ll.llama_context_p) -> None:
        if ll.llama_decode(context, self.batch) != 0:
            raise SystemExit("llama_decode failed")
        ll.llama_synchronize(context)
        self.batch.n_tokens = 0


def measure(model: ll.llama_model_p, threads: int, prompt: int, steps: int, count: int) -> None:
    """Prefill of `count` prompts, then decode steps of as many tokens."""
    vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))
    options = ll.llama_context_default_params()
    options.n_threads = options.n_threads_batch = threads
    options.n_seq_max, options.n_batch, options.n_ubatch = count, 2048, 512
    options.n_ctx = count * ((prompt + steps + 255) // 256 * 256)
    context = ll.llama_init_from_model(model, options)
    batch = Batch(2048)
    prefill = decode = 0.0
    for _ in range(2):  # the first round warms caches and page tables
        ll.llama_memory_clear(ll.llama_get_memory(context), True)
        start = time.perf_counter()
        for sequence in range(count):
            for i in range(prompt):
                token = ((i + sequence * 1009) * 7919 + 13) % vocabulary
                batch.add(token, i, sequence, i == prompt - 1)
                if batch.batch.n_tokens == batch.limit:
                    batch.run(context)
        if batch.batch.n_tokens:
            batch.run(context)
        prefill = time.perf_counter() - start
        start = time.perf_counter()
        for step in range(steps):
            for sequence in range(count):
                token = (step + sequence * 37) * 104729 % vocabulary
                batch.add(token, prompt + step, sequence, True)
            batch.run(context)
        decode = time.perf_counter() - start
    row = {"batch": count, "prefill_tok_s": count * prompt / prefill}
    print(json.dumps({**row, "decode_tok_s": count * steps / decode}), flush=True)
    ll.llama_free(context)


def main() -> None:
    """The command line."""
    ll.llama_backend_init()
    if sys.argv[1] == "quantize":
        quantize(*sys.argv[2:5])
        return
    model = ll.llama_model_load_from_file(sys.argv[1].encode(), ll.llama_model_default_params())
    if not model:
        raise SystemExit(f"{sys.argv[1]}: llama.cpp cannot load it")
    threads, prompt, steps = map(int, sys.argv[2:5])
    for count in map(int, sys.argv[5].split(",")):
        measure(model, threads, prompt, steps, count)


if __name__ == "__main__":
    main()
