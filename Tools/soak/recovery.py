#!/usr/bin/env python3
"""How long streams stall when a process of a cluster dies, hangs or is cut off.

    Tools/soak/recovery.py --step3 .build/release/step3 --model DIR [--streams 16] [--repeats 3]

Each scenario starts a small cluster on this machine, streams completions through it, does its harm in
the middle and prints one line of JSON: how many requests failed, how many tokens differ from those of
the undisturbed cluster, and the longest time that any stream waited for its next token. `cut` joins two
network namespaces by a virtual cable and pulls it; it needs root and iproute2.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ADDRESSES = ("192.0.2.1", "192.0.2.2")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """Processes by node; `far` nodes run in the second namespace."""

    def __init__(self, options: argparse.Namespace, roles: dict[str, str]) -> None:
        self.options, self.roles = options, roles
        self.folder = Path(tempfile.mkdtemp(prefix="step3-recovery-"))
        self.spaces = options.spaces.split(",") if options.spaces else []
        nodes = []
        self.addresses: dict[str, tuple[str, int]] = {}
        for name, role in roles.items():
            far = bool(self.spaces) and name == "f0"
            host = ADDRESSES[far] if self.spaces else "127.0.0.1"
            self.addresses[name] = (host, free_port())
            nodes.append(
                {"id": name, "role": role, "host": host, "port": self.addresses[name][1]}
            )
        self.file = self.folder / "cluster.json"
        self.file.write_text(json.dumps({"key": "recovery-recovery", "nodes": nodes}))
        self.log = (self.folder / "log.txt").open("wb")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        role = self.roles[name]
        command = [self.options.step3, "serve" if role == "gateway" else role]
        command += ["--model", self.options.model, "--cluster", str(self.file), "--id", name]
        command += ["--threads", "1"]
        if self.spaces and name == "f0":
            command = ["ip", "netns", "exec", self.spaces[1], *command]
        self.processes[name] = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def status(self, name: str, path: str) -> tuple[int, dict]:
        connection = http.client.HTTPConnection(*self.addresses[name], timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        except (OSError, ValueError):
            return 0, {}
        finally:
            connection.close()

    def wait(self, name: str, limit: float = 60) -> None:
        """Until a node is ready and misses nobody."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if self.status(name, "/ready")[0] == 200:
                if self.status(name, "/health")[1].get("missing") == []:
                    return
            time.sleep(0.01)
        raise SystemExit(f"{name} is not ready; see {self.log.name}")

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


class Stream(threading.Thread):
    """One streamed completion: its tokens, and when they came."""

    def __init__(self, cluster: Cluster, front: str, index: int, length: int) -> None:
        super().__init__()
        self.cluster, self.front, self.index, self.length = cluster, front, index, length
        self.tokens: list[int] = []
        self.times: list[float] = []
        self.status = 0
        self.error = ""

    def run(self) -> None:
        body = {
            "prompt": [(k * 7 + self.index * 13) % 90 + 3 for k in range(5 + 3 * self.index)],
            "max_tokens": self.length, "temperature": 0, "ignore_eos": True, "stream": True,
            "return_token_ids": True,
        }  # fmt: skip
        connection = http.client.HTTPConnection(
            *self.cluster.addresses[self.front], timeout=60
        )
        try:
            connection.request(
                "POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            self.status = answer.status
            for line in answer:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    self.error = json.dumps(event["error"])
                for choice in event.get("choices", []):
                    self.tokens += choice.get("token_ids") or []
                    self.times.append(time.monotonic())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.error = repr(error)
        finally:
            connection.close()

    @property
    def has_failed(self) -> bool:
        return self.status != 200 or bool(self.error) or len(self.tokens) != self.length


def stream_all(cluster: Cluster, front: str, harm=None) -> list[Stream]:
    options = cluster.options
    streams = [Stream(cluster, front, n, options.length) for n in range(options.streams)]
    for stream in streams:
        stream.start()
    if harm:
        # In the middle: when half of the tokens have come.
        while sum(len(s.tokens) for s in streams) < options.streams * options.length / 2:
            if not any(s.is_alive() for s in streams):
                raise SystemExit("the streams ended before the harm was done; raise --length")
            time.sleep(0.001)
        harm()
    for stream in streams:
        stream.join()
    return streams


def longest_gap(streams: list[Stream], since: float) -> float:
    """The longest time between two tokens of a stream that ended after `since`."""
    gaps = [
        later - earlier
        for stream in streams
        for earlier, later in zip(stream.times, stream.times[1:])
        if later >= since
    ]
    return max(gaps, default=0)


def survive(options: argparse.Namespace, name: str, roles: dict[str, str], harm) -> dict:
    """A scenario in which nothing may fail and nothing may differ."""
    cluster = Cluster(options, roles)
    try:
        for node in roles:
            cluster.start(node)
        front = "gw" if "gw" in roles else "a0"
        for node, role in roles.items():
            if role != "ffn":
                cluster.wait(node)
        stream_all(cluster, front)
        calm = stream_all(cluster, front)
        at: list[float] = []

        def do() -> None:
            at.append(time.monotonic())
            harm(cluster)

        found = stream_all(cluster, front, do)
        different = sum(a.tokens != b.tokens for a, b in zip(calm, found))
        return {
            "scenario": name, "streams": len(found), "failed": sum(s.has_failed for s in found),
            "different": different, "stall_s": round(longest_gap(found, at[0]), 3),
            "calm_gap_s": round(longest_gap(calm, 0), 3),
        }  # fmt: skip
    finally:
        cluster.stop()


def alone(options: argparse.Namespace) -> dict:
    """Without a replica: 503, and service again when the process is back."""
    cluster = Cluster(options, {"a0": "attention", "f0": "ffn"})
    try:
        for node in cluster.roles:
            cluster.start(node)
        cluster.wait("a0")
        calm = stream_all(cluster, "a0")

        def harm() -> None:
            cluster.processes["f0"].kill()
            cluster.processes["f0"].wait()

        began = time.monotonic()
        found = stream_all(cluster, "a0", harm)
        ended = time.monotonic()
        late = stream_all(cluster, "a0")
        started = time.monotonic()
        cluster.start("f0")
        probe = Stream(cluster, "a0", 0, 1)
        while probe.status != 200 or probe.error:
            probe = Stream(cluster, "a0", 0, 1)
            probe.run()
            time.sleep(0.01)
        back = time.monotonic() - started
        again = stream_all(cluster, "a0")
        return {
            "scenario": "alone", "under_way_errors": sorted({s.error[:60] for s in found}),
            "under_way_ended": all(s.has_failed for s in found) and ended > began,
            "late_statuses": sorted({s.status for s in late}), "service_back_s": round(back, 3),
            "different_after": sum(a.tokens != b.tokens for a, b in zip(calm, again)),
        }  # fmt: skip
    finally:
        cluster.stop()


def signalled(name: str, number: int):
    return lambda cluster: cluster.processes[name].send_signal(number)


def cut(options: argparse.Namespace) -> dict:
    def pull(cluster: Cluster) -> None:
        subprocess.run(
            ["ip", "-n", cluster.spaces[1], "link", "set", "cable1", "down"], check=True
        )

    return survive(options, "cut", {"a0": "attention", "f0": "ffn", "f1": "ffn"}, pull)


def in_namespaces(arguments: list[str]) -> None:
    """Runs this script for `cut` inside two namespaces made for it."""
    names = [f"step3-{os.getpid()}-{end}" for end in "ab"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip(*f"link add cable0 netns {names[0]} type veth peer name cable1 netns {names[1]}".split())
        for index, name in enumerate(names):
            ip("-n", name, "addr", "add", f"{ADDRESSES[index]}/24", "dev", f"cable{index}")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", f"cable{index}", "up")
        time.sleep(0.3)
        command = ["ip", "netns", "exec", names[0], sys.executable, __file__, *arguments]
        subprocess.run([*command, "--spaces", ",".join(names)], check=True)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def main() -> None:
    replicas = {"a0": "attention", "f0": "ffn", "f1": "ffn"}
    pair = {"a0": "attention", "a1": "attention", "f0": "ffn", "gw": "gateway"}
    scenarios = {
        "ffn-kill": lambda o: survive(o, "ffn-kill", replicas, signalled("f0", signal.SIGKILL)),
        "ffn-stop": lambda o: survive(o, "ffn-stop", replicas, signalled("f0", signal.SIGSTOP)),
        "cut": cut,
        "alone": alone,
        "attention-kill": lambda o: survive(
            o, "attention-kill", pair, signalled("a0", signal.SIGKILL)
        ),
        "attention-stop": lambda o: survive(
            o, "attention-stop", pair, signalled("a0", signal.SIGSTOP)
        ),
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step3", default=".build/release/step3")
    parser.add_argument("--model", required=True)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--length", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--scenario", action="append", choices=list(scenarios))
    parser.add_argument("--spaces", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.scenario or list(scenarios):
        for _ in range(options.repeats):
            if name == "cut" and not options.spaces:
                arguments = ["--step3", options.step3, "--model", options.model]
                arguments += ["--streams", str(options.streams), "--length", str(options.length)]
                in_namespaces([*arguments, "--scenario", "cut"])
            else:
                print(json.dumps(scenarios[name](options)), flush=True)


if __name__ == "__main__":
    main()
