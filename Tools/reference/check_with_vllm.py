#!/usr/bin/env python3
"""Compares the reference's logits with those of vLLM's own Step3 class, on the same files.

    python3 check_with_vllm.py MODEL ... [--dtype float32|bfloat16] [--tokens 31]

Not part of any test: it needs vLLM's CPU build (README.md says how to install it). Token ids are
those of the folder's golden values, or id(i) = (i * 7919 + 13) mod vocabulary. Exit status 1 when
a model differs by more than rounding; a model that vLLM refuses is reported and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
from step3_reference import Step3Reference

for name, value in {
    "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR",
}.items():  # fmt: skip
    os.environ.setdefault(name, value)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Natural logarithms of the softmax along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def token_ids(folder: Path, vocabulary: int, count: int) -> list[int]:
    """The folder's golden tokens, or a fixed sequence."""
    golden = folder / "golden" / "expected.json"
    if golden.exists():
        return json.loads(golden.read_text())["ids"]
    return [(i * 7919 + 13) % vocabulary for i in range(count)]


def renamed(folder: Path, temporary: Path) -> Path:
    """The folder with what vLLM's loader is strict about put right; the meaning stays.

    vLLM splits `moe_layers_enum` as text, and transformers asks for the plural
    `max_position_embeddings` where positions are scaled. Weights are linked, not copied.
    """
    document = json.loads((folder / "config.json").read_text())
    text = document.get("text_config", document)
    layers = text.get("moe_layers_enum", "-1")
    if isinstance(layers, list):
        text["moe_layers_enum"] = ",".join(map(str, layers))
    if "max_position_embedding" in text:
        text["max_position_embeddings"] = text["max_position_embedding"]
    target = temporary / folder.name
    target.mkdir()
    for path in folder.iterdir():
        if path.is_file() and path.name != "config.json":
            (target / path.name).symlink_to(path.resolve())
    (target / "config.json").write_text(json.dumps(document))
    return target


def vllm_logprobs(folder: Path, ids: list[int], vocabulary: int, dtype: str) -> np.ndarray:
    """Log-probabilities [T - 1, V] after each token but the last, by vLLM."""
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    engine = LLM(
        model=str(folder), dtype=dtype, enforce_eager=True, max_model_len=256, max_num_seqs=1,
        enable_prefix_caching=False, seed=0, max_logprobs=vocabulary, disable_log_stats=True,
        skip_tokenizer_init="text_config" not in json.loads((folder / "config.json").read_text()),
    )  # fmt: skip
    sampling = SamplingParams(
        temperature=0, max_tokens=1, prompt_logprobs=vocabulary, detokenize=False, ignore_eos=True
    )
    output = engine.generate([TokensPrompt(prompt_token_ids=ids)], sampling, use_tqdm=False)[0]
    result = np.full((len(ids) - 1, vocabulary), np.nan)
    for row, entries in enumerate(output.prompt_logprobs[1:]):
        for token, entry in entries.items():
            result[row, token] = entry.logprob
    return result


def compare(folder: Path, dtype: str, count: int) -> bool:
    """Prints one line for a model; whether it agrees."""
    model = Step3Reference(folder)
    vocabulary = model.config.vocabulary
    ids = token_ids(folder, vocabulary, count)
    expected = log_softmax(model.logits(ids))[:-1]
    with tempfile.TemporaryDirectory() as temporary:
        found = vllm_logprobs(renamed(folder, Path(temporary)), ids, vocabulary, dtype)
    difference = np.abs(found - expected)
    same = np.mean(found.argmax(axis=-1) == expected.argmax(axis=-1))
    divergence = (np.exp(expected) * (expected - found)).sum(axis=-1)
    agrees = difference.max() < 1e-3 if dtype == "float32" else divergence.mean() < 0.02
    print(
        f"{folder.name}: {len(ids) - 1} positions, largest difference of log-probabilities "
        f"{difference.max():.2g}, mean {difference.mean():.2g}, KL {divergence.mean():.2g}, "
        f"same top token {same:.0%}: {'agrees' if agrees else 'DIFFERS'}",
        flush=True,
    )
    return bool(agrees)


def main() -> int:
    """The command line; every model runs in a process of its own."""
    parser = argparse.ArgumentParser(description="Checks the reference against vLLM.")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--tokens", type=int, default=31)
    parser.add_argument("--verbose", action="store_true", help="show why vLLM refuses")
    arguments = parser.parse_args()
    differing = 0
    for folder in arguments.models:
        process = os.fork()
        if process == 0:
            try:
                agrees = compare(folder, arguments.dtype, arguments.tokens)
            except Exception as error:  # vLLM raises whatever its parts raise
                if arguments.verbose:
                    traceback.print_exc()
                print(f"{folder.name}: refused by vLLM: {str(error).splitlines()[-1][:200]}")
                agrees = True
            sys.stdout.flush()
            os._exit(0 if agrees else 1)
        differing += os.waitpid(process, 0)[1] != 0
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
