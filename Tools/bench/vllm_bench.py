#!/usr/bin/env python3
"""vLLM's CPU build on a Step3 checkpoint: tokens per second, one JSON object per batch.

    python vllm_bench.py CHECKPOINT PROMPT STEPS BATCH[,BATCH…]

Decode is the time of STEPS + 1 tokens less that of one. Run by compare.py.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


def main() -> None:
    """The command line."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    model, prompt, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    batches = [int(x) for x in sys.argv[4].split(",")]
    config = json.loads((Path(model) / "config.json").read_text())
    vocabulary = config.get("text_config", config)["vocab_size"]
    llm = LLM(
        model=model, dtype="bfloat16", enforce_eager=True, max_model_len=1024, seed=0,
        max_num_seqs=max(batches), max_num_batched_tokens=4096, enable_prefix_caching=False,
        disable_log_stats=True,
    )  # fmt: skip

    def seconds(batch: int, count: int, seed: int) -> float:
        sampling = SamplingParams(
            temperature=0, max_tokens=count, detokenize=False, ignore_eos=True
        )
        prompts = [
            TokensPrompt(
                prompt_token_ids=[((i + (seed + j) * 1009) * 7919 + 13) % vocabulary
                                  for i in range(prompt)]
            )
            for j in range(batch)
        ]  # fmt: skip
        start = time.perf_counter()
        llm.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - start

    seconds(1, 4, 99)
    for batch in batches:
        first, all_ = seconds(batch, 1, 1), seconds(batch, steps + 1, 1)
        decode = batch * steps / max(1e-9, all_ - first)
        row = {"batch": batch, "prefill_tok_s": batch * prompt / first, "decode_tok_s": decode}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
