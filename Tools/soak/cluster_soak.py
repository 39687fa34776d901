#!/usr/bin/env python3
"""Kills, stops and restarts the processes of a cluster under load, and counts what is lost.

    Tools/soak/cluster_soak.py --step3 .build/release/step3 --model DIR [--events 100] [--seed 1]

Two attention processes, two ffn replicas and a gateway run on this machine. Clients stream without
pause; every answer is compared with the one that the undisturbed cluster gave. Each event kills (-9),
stops (SIGSTOP, for up to two seconds) or drains (SIGTERM) one ffn or one attention process, never both
of a kind, and starts it again. In the second half a0 and f0 are only stopped, so that they see all the
others' deaths. At the end every request must have been answered, with the same tokens, and no process,
while it lived, may have come to hold more descriptors or much more memory than ten events after its
start.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """The processes by node, and how to start them again."""

    def __init__(self, step3: str, model: str, folder: Path) -> None:
        self.step3, self.model = step3, model
        roles = {"a0": "attention", "a1": "attention", "f0": "ffn", "f1": "ffn", "gw": "gateway"}
        self.nodes = {name: (role, free_port()) for name, role in roles.items()}
        self.file = folder / "cluster.json"
        nodes = [
            {"id": name, "role": role, "host": "127.0.0.1", "port": port}
            for name, (role, port) in self.nodes.items()
        ]
        self.file.write_text(json.dumps({"key": "soak-soak-soak-soak", "nodes": nodes}))
        self.log = (folder / "log.txt").open("wb")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        role = self.nodes[name][0]
        command = [self.step3, "serve" if role == "gateway" else role, "--model", self.model]
        command += ["--cluster", str(self.file), "--id", name, "--threads", "1"]
        self.processes[name] = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def url(self, name: str, path: str) -> str:
        return f"http://127.0.0.1:{self.nodes[name][1]}{path}"

    def is_whole(self) -> bool:
        """Whether the gateway and both attention nodes miss nobody."""
        try:
            for name in ("gw", "a0", "a1"):
                with urllib.request.urlopen(self.url(name, "/health"), timeout=2) as answer:
                    if json.load(answer).get("missing") != []:
                        return False
        except OSError:
            return False
        return True

    def wait_whole(self, limit: float = 60) -> None:
        end = time.monotonic() + limit
        while not self.is_whole():
            if time.monotonic() > end:
                raise SystemExit(f"the cluster did not come together; see {self.log.name}")
            time.sleep(0.05)

    def usage(self) -> dict[str, tuple[int, int]]:
        """Open descriptors and resident KiB of every process."""
        result = {}
        for name, process in self.processes.items():
            try:
                count = len(os.listdir(f"/proc/{process.pid}/fd"))
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                continue
            # Without the checkpoint's pages, which come and go as the system likes.
            memory = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            result[name] = (count, int(memory.split()[1]))
        return result


def complete(cluster: Cluster, index: int) -> tuple[int, list[int]]:
    body = {
        "prompt": [(k * 7 + index * 13) % 90 + 3 for k in range(5 + 9 * (index % 6))],
        "max_tokens": 60, "temperature": 0.8 * (index % 2), "seed": index, "ignore_eos": True,
        "return_token_ids": True,
    }  # fmt: skip
    request = urllib.request.Request(
        cluster.url("gw", "/v1/completions"), json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)["choices"][0]["token_ids"]
    except urllib.error.HTTPError as error:
        return error.code, []


class Clients:
    """Threads that ask without pause and compare every answer."""

    def __init__(self, cluster: Cluster, expected: list[list[int]], verbose: bool) -> None:
        self.cluster, self.expected, self.verbose = cluster, expected, verbose
        self.done = threading.Event()
        self.counts = {"answered": 0, "failed": 0, "different": 0}
        self.longest = 0.0
        self.lock = threading.Lock()
        self.began = time.monotonic()

    def tell(self, text: str) -> None:
        if self.verbose:
            print(f"{time.monotonic() - self.began:7.2f} {text}", flush=True)

    def run(self, number: int) -> None:
        index = number
        while not self.done.is_set():
            asked = time.monotonic()
            try:
                status, tokens = complete(self.cluster, index % len(self.expected))
            except OSError:
                status, tokens = 0, []
            took = time.monotonic() - asked
            if took > 3:
                self.tell(f"an answer took {took:.2f} s")
            with self.lock:
                self.longest = max(self.longest, took)
                self.counts["answered"] += 1
                if status != 200:
                    self.counts["failed"] += 1
                elif tokens != self.expected[index % len(self.expected)]:
                    self.counts["different"] += 1
            index += 1


def disturb(
    cluster: Cluster, clients: Clients, chance: random.Random, spared: set[str]
) -> None:
    """One event, and its end: the cluster is whole again."""
    name = chance.choice(["f0", "f1", "a0", "a1"])
    process = cluster.processes[name]
    time.sleep(chance.uniform(0, 0.3))
    kind = chance.choice(["kill", "stop", "drain", "kill"])
    if kind != "stop" and name not in spared:
        clients.tell(f"{kind} {name}")
        process.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
        process.wait(60)
        time.sleep(chance.uniform(0, 0.5))
        cluster.start(name)
    else:
        clients.tell(f"stop {name}")
        process.send_signal(signal.SIGSTOP)
        time.sleep(chance.uniform(0.05, 2))
        process.send_signal(signal.SIGCONT)
        clients.tell(f"continue {name}")
    cluster.wait_whole()
    clients.tell("whole")


def growth(lives: dict[tuple[str, int], list[tuple[int, int]]]) -> list[dict[str, object]]:
    """Of every process that saw at least 15 events: what it held after ten of them and at its end,
    the most of three events each, for connections come and go."""
    return [
        {
            "node": name, "events": len(seen),
            "descriptors": [max(u[0] for u in seen[8:11]), max(u[0] for u in seen[-3:])],
            "kib": [max(u[1] for u in seen[8:11]), max(u[1] for u in seen[-3:])],
        }
        for (name, _), seen in lives.items()
        if len(seen) >= 15
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step3", default=".build/release/step3")
    parser.add_argument("--model", required=True)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="tell of events and slow answers")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="step3-soak-"))
    cluster = Cluster(arguments.step3, arguments.model, folder)
    for name in cluster.nodes:
        cluster.start(name)
    cluster.wait_whole()
    expected = [complete(cluster, index)[1] for index in range(12)]
    assert all(len(tokens) == 60 for tokens in expected), "the undisturbed cluster fails"
    clients = Clients(cluster, expected, arguments.verbose)
    threads = [threading.Thread(target=clients.run, args=(n,)) for n in range(arguments.clients)]
    for thread in threads:
        thread.start()
    chance = random.Random(arguments.seed)
    # By process: what it held after each event since its start.
    lives: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for event in range(arguments.events):
        disturb(cluster, clients, chance, {"a0", "f0"} if event >= arguments.events // 2 else set())
        for name, usage in cluster.usage().items():
            lives.setdefault((name, cluster.processes[name].pid), []).append(usage)
    clients.done.set()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - clients.began
    for process in cluster.processes.values():
        process.send_signal(signal.SIGTERM)
    codes = {name: process.wait(30) for name, process in cluster.processes.items()}
    result = {
        "events": arguments.events, "seconds": round(seconds, 1), **clients.counts,
        "longest_request_seconds": round(clients.longest, 2), "exit_codes": codes,
        "lives": growth(lives), "log": str(folder / "log.txt"),
    }  # fmt: skip
    print(json.dumps(result))
    leaked = any(
        life["descriptors"][1] > life["descriptors"][0] + 2 * arguments.clients
        or life["kib"][1] > 1.2 * life["kib"][0] + 8192
        for life in result["lives"]
    )
    clean = all(code == 143 for code in codes.values())
    lost = clients.counts["failed"] + clients.counts["different"]
    raise SystemExit(int(lost > 0 or leaked or not clean))


if __name__ == "__main__":
    main()
