"""Independent computation of decoding costs and pipeline times, in plain Python.

Written from the published formulas and model cards, not from the Swift sources; it shares no
file with them. Writes the golden values that CostModelTests compares at 1e-9 relative:

    python3 Tools/costmodel/reference.py > Tests/Fixtures/CostModel/reference.json
"""

import json
import math

DEVICES = {  # USD/h, FLOP/s at 8-bit storage, bytes/s, INT8 FLOP/s
    "h800": (2.0, 1.98e15, 3.35e12, 1.98e15),
    "h20": (0.8, 2.96e14, 4.0e12, 2.96e14),
    "a800": (0.75, 3.12e14, 2.0e12, 6.24e14),
    "910b": (0.67, 2.8e14, 1.6e12, 5.6e14),
}


def gqa(n, heads, kv, d, width=1, window=None):
    return dict(kind="gqa", n=n, heads=heads, kv=kv, d=d, width=width, window=window)


def mla(n, heads):
    return dict(kind="mla", n=n, heads=heads)


# name: layers, hidden, vocabulary, attention, (layers, dense, experts, top k, width, shared)
MODELS = {
    "dsv3": (61, 7168, 129280, [mla(61, 128)],
             [(3, 18432, 0, 0, 0, 0), (58, 0, 256, 8, 2048, 2048)]),
    "kimi-k2": (61, 7168, 163840, [mla(61, 64)],
                [(1, 18432, 0, 0, 0, 0), (60, 0, 384, 8, 2048, 2048)]),
    "qwen3-235b": (94, 4096, 151936, [gqa(94, 64, 4, 128)], [(94, 0, 128, 8, 1536, 0)]),
    "qwen3-32b": (64, 5120, 151936, [gqa(64, 64, 8, 128)], [(64, 25600, 0, 0, 0, 0)]),
    "llama4-maverick": (48, 5120, 202048,
                        [gqa(12, 40, 8, 128, 2), gqa(36, 40, 8, 128, 1, 8192)],
                        [(24, 16384, 0, 0, 0, 0), (24, 0, 128, 1, 8192, 8192)]),
    "minimax-m1": (80, 6144, 200064,
                   [gqa(10, 64, 8, 128, 2), dict(kind="lightning", n=70, heads=64, d=128)],
                   [(80, 0, 32, 2, 9216, 0)]),
    "ernie-4.5": (54, 8192, 103424, [gqa(54, 64, 8, 128)],
                  [(3, 28672, 0, 0, 0, 0), (51, 0, 64, 8, 3584, 0)]),
    "pangu-pro": (48, 5120, 153600, [gqa(48, 40, 8, 128)], [(48, 0, 64, 8, 1344, 5376)]),
    "step3": (61, 7168, 128815, [dict(kind="mfa", n=61, heads=64, d=256)],
              [(5, 18432, 0, 0, 0, 0), (56, 0, 48, 3, 5120, 5120)]),
}


def kv_bytes(a, context):
    if a["kind"] == "mla":
        return 576 * context
    if a["kind"] == "mfa":
        return 2 * a["d"] * context
    if a["kind"] == "lightning":
        return 2 * a["heads"] * a["d"] ** 2 * 4
    return 2 * a["kv"] * a["d"] * a["width"] * min(context, a["window"] or context)


def core_flops(a, context, exact):
    if a["kind"] == "mla":
        return (2 * a["heads"] * (2 * 512 + 64) if exact else 4 * a["heads"] * 576) * context
    if a["kind"] == "mfa":
        return 4 * a["heads"] * a["d"] * context
    if a["kind"] == "lightning":
        return (5 if exact else 10) * a["heads"] * a["d"] ** 2
    return 4 * a["heads"] * a["d"] * min(context, a["window"] or context)


def linear(a, hidden):
    h = a["heads"]
    if a["kind"] == "mla":
        return (hidden * 1536 + 1536 * h * 192 + hidden * 576 + 512 * h * 256 + h * 128 * hidden)
    if a["kind"] == "mfa":
        return hidden * 2048 + 2048 * h * 256 + 2 * hidden * 256 + h * 256 * hidden
    if a["kind"] == "lightning":
        return 5 * hidden * h * a["d"]
    return 2 * hidden * h * a["d"] + 2 * hidden * a["kv"] * a["d"]


def work(name, context, exact=False):
    _, hidden, _, attention, ffn = MODELS[name]
    return (
        sum(a["n"] * kv_bytes(a, context) for a in attention),
        sum(a["n"] * core_flops(a, context, exact) for a in attention),
        2 * sum(a["n"] * linear(a, hidden) for a in attention),
        6 * hidden * sum(n * (dense + k * width + shared)
                         for n, dense, _, k, width, shared in ffn),
    )


def parameters(name):
    _, hidden, vocabulary, attention, ffn = MODELS[name]
    return (
        2 * vocabulary * hidden + sum(a["n"] * linear(a, hidden) for a in attention)
        + sum(n * (3 * hidden * (dense + e * width + shared) + e * hidden)
              for n, dense, e, _, width, shared in ffn))


def cost(name, device, context, exact=False, int8=False):
    price, peak, bandwidth, int8_peak = DEVICES[device]
    flop = price / 3600 / (int8_peak if int8 else peak)
    byte = price / 3600 / bandwidth
    kv, core, lin, ffn = work(name, context, exact)
    return 1e6 * (max(core * flop, kv * byte) + lin * flop), 1e6 * ffn * flop


# Fit of the sixteen attention times: shares of bandwidth and peak, smoothing, overhead.
P, OVERHEAD = 2.04637849, 42.43720426e-6
HOPPER, AMPERE = 0.95, 0.81054371
CORE = {"mfa": 0.82521191, "mla": 0.87255906, "gqa": 0.68643567}


def smooth(a, b):
    return (a ** P + b ** P) ** (1 / P)


def layer_time(kind, device, context):
    """One attention layer of Table 9: 256 samples on four devices, BF16 KV and core."""
    bf16 = {"h800": 989e12, "h20": 148e12, "a800": 312e12}[device]
    gemm = {"h800": 1.98e15, "h20": 296e12, "a800": 624e12}[device]
    bandwidth = DEVICES[device][2]
    model = {"mfa": "step3", "mla": "dsv3", "gqa": "qwen3-235b"}[kind]
    _, hidden, _, attention, _ = MODELS[model]
    a = attention[0]
    share = AMPERE if device == "a800" else HOPPER
    padding = 4 if kind == "gqa" else 1
    core = smooth(64 * 2 * kv_bytes(a, context) / (bandwidth * share),
                  64 * core_flops(a, context, True) * padding / (bf16 * CORE[kind]))
    weights, samples = linear(a, hidden), 64
    if kind == "gqa":
        weights, samples = weights / 4, 256
    lin = max(weights / (bandwidth * 0.85), 2 * weights * samples / (gemm * 0.7))
    return core + lin + OVERHEAD


def step3_pipeline(x, y, tokens, context, kv_width=1, scale_up=450e9, overlapped=False):
    """TPOT and tokens/s/GPU of Step-3 on H100, three micro-batches, eight GPUs a server."""
    hidden, bandwidth, fp8 = 7168, 3.35e12, 1979e12
    samples = tokens / (8 * x)
    a = MODELS["step3"][3][0]
    peak = fp8 if kv_width == 1 else 989e12
    core = smooth(samples * context * 512 * kv_width / (bandwidth * HOPPER),
                  samples * context * 65536 / (peak * CORE["mfa"]))
    weights = linear(a, hidden)
    t_a = (core + max(weights / (bandwidth * 0.85), 2 * weights * samples / (fp8 * 0.7))
           + OVERHEAD)
    collective = 3 * hidden * tokens * 7 / 8 / (scale_up * 0.8)

    def t_f(stored, active):
        products = smooth(stored / (8 * y) / (bandwidth * 0.85),
                          2 * active * tokens / (8 * y * fp8 * 0.7))
        return (max(products, collective) if overlapped else products + collective) + 10e-6

    unit = 3 * hidden
    touched = 48 * (1 - (1 - 3 / 48) ** tokens) + 1
    moe = t_f(unit * 5120 * touched, unit * 5120 * 4)
    dense = t_f(unit * 18432, unit * 18432)
    net = 3 * hidden * tokens / (8 * 40e9) * max(1, y / x)

    def period(f):
        return max(3 * max(t_a, f, net), t_a + f + net)

    step = 56 * period(moe) + 5 * period(dense) + 1e-3
    return dict(attention=t_a, feedForward=moe, network=net, step=step,
                perDevice=3 * tokens / step / (8 * (x + y)))


def main():
    contexts = [1000, 4096, 8192, 32768, 65536, 100000, 131072]
    rows, pairs = [], []
    for name in MODELS:
        for context in contexts:
            kv, core, lin, ffn = work(name, context)
            for device in DEVICES:
                attention, feed_forward = cost(name, device, context)
                exact, _ = cost(name, device, context, exact=True)
                int8 = sum(cost(name, device, context, int8=True))
                rows.append(dict(model=name, hardware=device, context=context, kv_bytes=kv,
                                 attention_flops=core, linear_flops=lin, ffn_flops=ffn,
                                 attention=attention, ffn=feed_forward, attention_exact=exact,
                                 total_int8=int8))
            costs = {d: cost(name, d, context) for d in DEVICES}
            a = min(costs, key=lambda d: costs[d][0])
            f = min(costs, key=lambda d: costs[d][1])
            pairs.append(dict(model=name, context=context, attention_hardware=a,
                              ffn_hardware=f, usd=costs[a][0] + costs[f][1]))
    pipeline = []
    for x, y, tokens, context, width in [(2, 2, 2048, 4096, 1), (3, 2, 2016, 4096, 2),
                                         (4, 2, 2048, 8192, 1), (16, 2, 2048, 32768, 1)]:
        for scale_up, overlapped in [(450e9, False), (200e9, False), (200e9, True)]:
            pipeline.append(dict(x=x, y=y, tokens=tokens, context=context, kvWidth=width,
                                 scaleUp=scale_up, overlapped=overlapped,
                                 **step3_pipeline(x, y, tokens, context, width, scale_up,
                                                  overlapped)))
    table9 = [dict(kind=k, hardware=d, context=c, seconds=layer_time(k, d, c))
              for c in (8192, 32768) for k in ("mfa", "mla", "gqa")
              for d in ("h800", "h20", "a800") if (k, d) != ("mla", "a800")]
    json.dump(dict(parameters={n: parameters(n) for n in MODELS}, rows=rows, pairs=pairs,
                   pipeline=pipeline, table9=table9), fp=__import__("sys").stdout, indent=0)
    print()


if __name__ == "__main__":
    main()
