#!/usr/bin/env python3
"""A load generator for an OpenAI-compatible server; needs nothing but Python.

    load.py --concurrency 16 --output-tokens 128                 # streams, by rate and latency
    load.py --requests 30 --output-tokens 1 --prompt-tokens 64   # time to first token, one by one
    load.py --prompt-tokens 4000 --probe /health,/metrics        # probes beside long prompts

One thread reads all streams, so that it takes little of the machine that the server runs on.
`steady` is the rate while all streams run: from the last first token to the first last one.
Ids of prompts are random by --seed, so that no two prompts share a prefix.
"""
import argparse
import http.client
import json
import random
import selectors
import socket
import sys
import threading
import time
import urllib.parse


class Stream:
    """One streamed completion: its socket, what came, and when."""

    def __init__(self, host, port, body, path):
        self.events = []  # (time, tokens so far)
        self.buffer = b""
        self.tokens = 0
        self.status = 0
        self.usage = None
        payload = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n").encode()
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began = time.perf_counter()
        self.socket.sendall(head + payload)

    def read(self):
        """Takes what has come; False at the end of the answer."""
        data = self.socket.recv(1 << 16)
        now = time.perf_counter()
        self.buffer += data
        if self.status == 0 and b"\r\n\r\n" in self.buffer:
            self.status = int(self.buffer.split(b" ", 2)[1])
        # Chunk headers stand on lines of their own between the events.
        lines = self.buffer.split(b"\n")
        self.buffer = lines.pop()
        ended = not data
        for line in lines:
            if line.startswith(b"data: [DONE]"):
                ended = True
            elif line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if event.get("usage"):
                    self.usage = event["usage"]
                    count = self.usage["completion_tokens"]
                    if count > self.tokens:
                        self.tokens = count
                        self.events.append((now, count))
                if "error" in event:
                    raise SystemExit(f"the server answers {event['error']}")
        if ended and self.status != 200:
            raise SystemExit(f"status {self.status}")
        return not ended


def percentile(values, share):
    """The nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def run_streams(options, extra):
    """Runs all requests, so many at a time; the finished streams."""
    url = urllib.parse.urlparse(options.url)
    rng = random.Random(options.seed)
    selector = selectors.DefaultSelector()
    left, done, active = options.requests, [], 0

    def start():
        body = {
            "prompt": [rng.randrange(options.first_id, options.last_id)
                       for _ in range(options.prompt_tokens)],
            "max_tokens": options.output_tokens, "ignore_eos": True, "stream": True,
            "temperature": 0,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True}} | extra
        stream = Stream(url.hostname, url.port, body, "/v1/completions")
        selector.register(stream.socket, selectors.EVENT_READ, stream)

    while left and active < options.concurrency:
        start()
        left, active = left - 1, active + 1
    while active:
        for key, _ in selector.select():
            if not key.data.read():
                selector.unregister(key.fileobj)
                key.fileobj.close()
                done.append(key.data)
                active -= 1
                if left:
                    start()
                    left, active = left - 1, active + 1
    return done


def report(streams, seconds):
    """Rates and latencies as one dictionary, by the names of `vllm bench serve`."""
    ttft = [s.events[0][0] - s.began for s in streams if s.events]
    itl = [(b[0] - a[0]) / (b[1] - a[1]) for s in streams for a, b in zip(s.events, s.events[1:])]
    tokens = sum(s.tokens for s in streams)
    result = {
        "completed": len(streams), "total_output_tokens": tokens,
        "output_throughput": tokens / seconds,
        "p50_ttft_ms": 1e3 * percentile(ttft, 0.5), "p99_ttft_ms": 1e3 * percentile(ttft, 0.99),
    }
    if itl:
        result |= {"p50_itl_ms": 1e3 * percentile(itl, 0.5),
                   "p99_itl_ms": 1e3 * percentile(itl, 0.99)}
    from_, to = max(s.events[0][0] for s in streams), min(s.events[-1][0] for s in streams)
    if to > from_:
        inside = [[e for e in s.events if from_ <= e[0] <= to] for s in streams]
        gained = sum(e[-1][1] - e[0][1] for e in inside if e)
        result["steady_output_throughput"] = gained / (to - from_)
    return result


def probe(options, path, stop, times):
    """Asks for one path again and again on a connection of its own."""
    url = urllib.parse.urlparse(options.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    while not stop.is_set():
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        times.append(time.perf_counter() - began)
        if answer.status != 200:
            raise SystemExit(f"{path} answers {answer.status}")
        time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--requests", type=int, help="by default as many as at a time")
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--first-id", type=int, default=1000)
    parser.add_argument("--last-id", type=int, default=30000)
    parser.add_argument("--extra", default="{}", help="more fields of the request, as JSON")
    parser.add_argument("--probe", default="", help="paths asked for meanwhile, by commas")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.requests = options.requests or options.concurrency
    stop = threading.Event()
    probes = {path: [] for path in options.probe.split(",") if path}
    threads = [threading.Thread(target=probe, args=(options, path, stop, times))
               for path, times in probes.items()]
    for thread in threads:
        thread.start()
    began = time.perf_counter()
    try:
        streams = run_streams(options, json.loads(options.extra))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    result = report(streams, time.perf_counter() - began)
    for path, times in probes.items():
        result[f"probes {path}"] = len(times)
        for name, share in ("p50", 0.5), ("p99", 0.99), ("max", 1):
            result[f"{name}_ms {path}"] = 1e3 * percentile(times, share)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:30} {value:.2f}" if isinstance(value, float) else f"{name:30} {value}")


if __name__ == "__main__":
    sys.exit(main())
