#!/usr/bin/env python3
"""Decode and prefill of step3, llama.cpp and vLLM on the same shapes, in one interleaved run.

    Tools/bench/setup.sh DIR                      once: both peers in virtual environments
    python3 Tools/bench/compare.py --peers DIR --model CKPT [--shape step3-mini-1b] --rounds 3

CKPT is a folder of Tools/checkpoints; the GGUF file of the same shape is made beside the peers.
Rounds alternate the engines, because one engine's figures move by a fifth between runs that are
minutes apart: only figures of one run compare. Prints medians, their spread, the ratio of step3 to
each peer, and how much of the machine other processes took while each ran.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
Rows = dict[tuple[str, int], dict[str, list[float]]]


def busy_seconds() -> float:
    """CPU seconds that all processes of the machine have used."""
    fields = [int(x) for x in open("/proc/stat").readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def step3_rows(a: argparse.Namespace) -> list[dict[str, float]]:
    """One run of `step3 bench decode` and `bench prefill`."""
    batches = ",".join(map(str, a.batches))
    common = ["--model", a.model, "--dtype", "bfloat16", "--repeats", "1", "--threads", a.threads]
    runs = {
        "decode": ["--contexts", str(a.prompt), "--batches", batches, "--steps", str(a.steps)],
        "prefill": ["--tokens", str(a.prompt)],
    }
    rows = []
    for name, flags in runs.items():
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            command = [a.binary, "bench", name, *common, *flags, "--json", out.name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=a.timeout)
            document = json.loads(Path(out.name).read_text())
        for row in document["rows"]:
            key = f"{name}_tok_s"
            rows.append({"batch": row.get("batch", 1), key: row["tokens_per_second"]})
    return rows


def peer_rows(command: list[str], a: argparse.Namespace, env: dict[str, str]) -> list[dict]:
    """The JSON lines that a peer's benchmark prints."""
    out = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        timeout=a.timeout, env={**os.environ, **env},
    ).stdout  # fmt: skip
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def vllm_rows(a: argparse.Namespace) -> list[dict]:
    """vLLM's CPU build; it reads the checkpoint itself."""
    cores = ",".join(map(str, range(int(a.threads))))
    command = [
        f"{a.peers}/vllm/bin/python", str(HERE / "vllm_bench.py"), a.model, str(a.prompt),
        str(a.steps), ",".join(map(str, a.batches)),
    ]  # fmt: skip
    return peer_rows(command, a, {"VLLM_CPU_OMP_THREADS_BIND": cores})


def llama_rows(a: argparse.Namespace) -> list[dict]:
    """llama.cpp on a file of the same bytes and multiply-adds per token."""
    python = f"{a.peers}/llama/bin/python"
    gguf = Path(a.peers) / f"{a.shape}.gguf"
    if not gguf.exists():
        subprocess.run([python, str(HERE / "make_gguf.py"), a.shape, str(gguf)], check=True)
    command = [
        python, str(HERE / "llama_bench.py"), str(gguf), a.threads, str(a.prompt), str(a.steps),
        ",".join(map(str, a.batches)),
    ]  # fmt: skip
    return peer_rows(command, a, {})


def report(rows: Rows, names: list[str], foreign: dict[str, list[float]]) -> None:
    """Medians with their spread, and the first engine's ratio to the others."""
    for name in names:
        if foreign[name]:
            print(f"{name}: others took {100 * statistics.mean(foreign[name]):.0f} % of the machine")
    for (key, batch), engines in sorted(rows.items()):
        medians = {name: statistics.median(values) for name, values in engines.items()}
        parts = []
        for name in (n for n in names if n in medians):
            values = engines[name]
            text = f"{name} {medians[name]:.1f} [{min(values):.1f}..{max(values):.1f}]"
            if name != names[0] and names[0] in medians:
                text += f" x{medians[names[0]] / medians[name]:.2f}"
            parts.append(text)
        print(f"{key:14} batch {batch:3}  " + "  ".join(parts))


def integers(text: str) -> list[int]:
    """The numbers of a list such as 1,4,16."""
    return [int(piece) for piece in text.split(",")]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="step3 against llama.cpp and vLLM.")
    parser.add_argument("--model", required=True, help="checkpoint of Tools/checkpoints")
    parser.add_argument("--shape", default="step3-mini-1b", help="its shape, for the GGUF file")
    parser.add_argument("--peers", default=str(ROOT / ".cache/peers"), help="folder of setup.sh")
    parser.add_argument("--binary", default=str(ROOT / ".build/release/step3"))
    parser.add_argument("--engines", default="step3,llama.cpp,vllm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default=str(os.cpu_count()))
    parser.add_argument("--prompt", type=int, default=128, help="tokens of each prompt")
    parser.add_argument("--steps", type=int, default=32, help="decode steps")
    parser.add_argument("--batches", type=integers, default=[1, 4, 16])
    parser.add_argument("--timeout", type=float, default=600)
    parser.add_argument("--json", type=Path, help="also write every figure")
    a = parser.parse_args()
    engines = {"step3": step3_rows, "llama.cpp": llama_rows, "vllm": vllm_rows}
    names = a.engines.split(",")
    rows: Rows = {}
    foreign: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(a.rounds):
        for name in names:
            before, own = busy_seconds(), os.times()
            got = engines[name](a)
            after = os.times()
            used = after.children_user + after.children_system
            used -= own.children_user + own.children_system
            others = busy_seconds() - before - used
            foreign[name].append(max(0.0, others) / (after.elapsed - own.elapsed) / os.cpu_count())
            for row in got:
                for key in ("prefill_tok_s", "decode_tok_s"):
                    if key in row:
                        place = rows.setdefault((key, int(row["batch"])), {})
                        place.setdefault(name, []).append(row[key])
    report(rows, names, foreign)
    if a.json:
        listed = [{"figure": k[0], "batch": k[1], **v} for k, v in sorted(rows.items())]
        a.json.write_text(json.dumps({"rows": listed, "foreign": foreign}, indent=1) + "\n")


if __name__ == "__main__":
    main()
