"""Golden tokens and logprobs for Tests/SamplingTests, by NumPy and full sorts.

An independent implementation of the documented order (processors in float32, temperature, min-p,
top-k, top-p, inverse cumulative distribution over ascending ids) on NumPy's own Philox generator.
Cases whose random number falls within 1e-5 of the border between two tokens, or whose top-p cut
does, are skipped: there the rounding of a float32 exp would decide.

    python3 Tools/reference/sampling_golden.py Tests/Fixtures/sampling/golden.json
"""

import json
import sys

import numpy as np


def logits_of(case):
    """The same row the Swift test builds: a multiplicative hash, exact in float32."""
    ids = np.arange(case["vocabulary"], dtype=np.uint64)
    hashed = (ids * np.uint64(2654435761) + np.uint64(case["salt"])) & np.uint64(0xFFFFFFFF)
    unit = (hashed >> np.uint64(8)).astype(np.float64) / 2.0**24
    values = unit * 20.0 - 10.0
    if case["steps"] > 0:  # coarse values, so that ties happen
        values = np.floor(values * case["steps"]) / case["steps"]
    return values.astype(np.float32)


def uniform(seed, position):
    """NumPy's Philox is 4x64-10 and increments its counter before the first block."""
    before = (position - 1) % 2**256
    counter = np.array([(before >> (64 * i)) % 2**64 for i in range(4)], dtype=np.uint64)
    generator = np.random.Philox(key=np.array([seed, 0], dtype=np.uint64), counter=counter)
    return float(int(generator.random_raw(1)[0]) >> 11) * 2.0**-53


def processed(case, raw):
    x = raw.copy()
    for token, bias in case.get("logit_bias", []):
        x[token] += np.float32(bias)
    if "allowed" in case:
        keep = np.zeros(len(x), bool)
        keep[case["allowed"]] = True
        x[~keep] = -np.inf
    generated = case.get("generated", [])
    for word in case.get("bad_words", []):
        if len(word) == 1 or generated[-(len(word) - 1):] == word[:-1]:
            x[word[-1]] = -np.inf
    if len(generated) < case.get("min_tokens", 0):
        x[case["stop_tokens"]] = -np.inf
    repetition = np.float32(case.get("repetition_penalty", 1.0))
    for token in sorted(set(case.get("prompt", [])) | set(generated)):
        x[token] = x[token] / repetition if x[token] > 0 else x[token] * repetition
        count = generated.count(token)
        if count:
            x[token] -= np.float32(case.get("frequency_penalty", 0.0)) * np.float32(count)
            x[token] -= np.float32(case.get("presence_penalty", 0.0))
    return x


def choose(case, raw):
    x = processed(case, raw)
    temperature = case.get("temperature", 1.0)
    if temperature == 0:
        return int(np.argmax(x))
    z = (x.astype(np.float64) - np.float64(x.max())) / temperature
    keep = np.isfinite(z)
    if case.get("min_p", 0) > 0:
        keep &= np.exp(z) >= case["min_p"]
    order = np.lexsort((np.arange(len(z)), -x.astype(np.float64)))
    order = order[keep[order]]
    if case.get("top_k", 0) > 0:
        order = order[: case["top_k"]]
    if case.get("top_p", 1.0) < 1:
        mass = np.cumsum(np.exp(z[order]))
        share = mass / mass[-1]
        if np.abs(share - case["top_p"]).min() < 1e-5:
            return None
        order = order[: int(np.searchsorted(share, case["top_p"])) + 1]
    kept = np.sort(order)
    cumulative = np.cumsum(np.exp(z[kept]))
    cumulative /= cumulative[-1]
    u = uniform(case["seed"], case["position"])
    if np.abs(cumulative - u).min() < 1e-5:
        return None
    return int(kept[np.searchsorted(cumulative, u, side="right")])


def report(case, raw, token):
    x = raw.astype(np.float64)
    logprobs = x - x.max() - np.log(np.exp(x - x.max()).sum())
    order = np.lexsort((np.arange(len(x)), -x))
    return {
        "logprob": float(logprobs[token]),
        "rank": int(np.where(order == token)[0][0]) + 1,
        "top": [int(t) for t in order[: case["logprobs"]]],
        "top_logprobs": [float(logprobs[t]) for t in order[: case["logprobs"]]],
    }


def cases():
    variants = [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 0.7},
        {"temperature": 2.0},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_k": 20},
        {"temperature": 1.0, "top_k": 20, "top_p": 0.8},
        {"temperature": 1.5, "top_p": 0.95},
        {"temperature": 1.5, "top_p": 0.05},
        {"temperature": 1.0, "min_p": 0.05},
        {"temperature": 1.3, "min_p": 0.1, "top_k": 40, "top_p": 0.9},
        {"temperature": 1.3, "min_p": 0.01, "top_p": 0.9},
        {"temperature": 0.8, "logit_bias": [[3, 12.5], [5, -100.0]]},
        {"temperature": 1.0, "allowed": [1, 2, 3, 70, 71]},
        {"temperature": 0.0, "allowed": [9, 17, 40]},
        {"temperature": 1.0, "generated": [4, 9], "bad_words": [[1], [4, 9, 2], [9, 3], [4, 5]],
         "allowed": [1, 2, 3, 5]},
        {"temperature": 1.0, "generated": [4, 9], "min_tokens": 3, "stop_tokens": [1, 2],
         "allowed": [1, 2, 3, 5]},
        {"temperature": 1.0, "prompt": [1, 2, 3, 3], "generated": [2, 5, 5, 5],
         "repetition_penalty": 1.3, "presence_penalty": 0.6, "frequency_penalty": 0.4,
         "allowed": [1, 2, 3, 4, 5, 6]},
        {"temperature": 0.0, "prompt": list(range(50)), "generated": list(range(40, 90)),
         "repetition_penalty": 1.7, "presence_penalty": -1.0, "frequency_penalty": 2.0},
    ]
    number = 0
    for vocabulary, steps in [(100, 0), (100, 1), (1000, 4), (5003, 0)]:
        for variant in variants:
            for seed in (0, 1234, 2**63 + 17):
                number += 1
                yield dict(
                    variant, vocabulary=vocabulary, steps=steps, salt=number * 7919, seed=seed,
                    position=number % 97, logprobs=5)


def main(path):
    results = []
    for case in cases():
        raw = logits_of(case)
        token = choose(case, raw)
        if token is not None:
            results.append(dict(case, token=token, **report(case, raw, token)))
    philox = [
        {"seed": seed, "position": position, "uniform": uniform(seed, position)}
        for seed in (0, 1, 42, 2**64 - 1) for position in (0, 1, 2, 1000, 2**40)
    ]
    with open(path, "w") as file:
        json.dump({"philox": philox, "cases": results}, file, separators=(",", ":"))
        file.write("\n")
    print(f"{len(results)} cases, numpy {np.__version__}")


main(sys.argv[1])
