#!/usr/bin/env python3
"""Learns what the image tokens must be for the frozen language model to answer questions.

    python train_words.py DIR --gguf MODEL.gguf --tokenizer FOLDER [--steps N] [--codes CODES.pt]

Learnt are: a vector for every code that the tower can say (see scenes.py; they become the
projector), the embedding rows of <im_start> and <im_end>, and a low-rank addition to the attention
matrices (`--rank 0`: none, the language model stays as it is). The vectors start as the model's own
words. The loss is that of the answer, in question/answer pairs whose "picture" is a row of codes:
ideal ones with noise, or the tower's own (`--codes`). So that the additions leave text alone, every
second batch is plain text (Python's own documentation), whose loss is the distance to the unchanged
model, and the additions shrink a little in every step (`--shrink`). State is in DIR/words_state.pt, the
result in DIR/words.pt; the next call goes on.
"""

from __future__ import annotations

import argparse
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from questions import Asker
from scenes import COLOURS, COUNTS, DIGITS, KINDS, SHAPES, SLOTS, WORDS, code_names, slot_ranges
from trunk import TAIL, USER, Cache, Trunk, Words

RANGES = slot_ranges()


def draw_slots(n: int, g: torch.Generator, shares=(0.36, 0.44, 0.1, 0.1)) -> torch.Tensor:
    """Slot values [n, slots] of imagined pictures, as scenes.py labels them."""

    def some(k: int) -> torch.Tensor:
        return torch.randint(k, (n,), generator=g)

    kind = torch.multinomial(torch.tensor(shares), n, True, generator=g)
    out = torch.stack([torch.full((n,), len(v)) for _, v in SLOTS], 1)
    out[:, 0], out[:, 2], out[:, 8] = kind, some(len(COLOURS)), some(len(COLOURS))
    digit, shape, number, word = (kind == k for k in range(len(KINDS)))
    out[:, 1] = torch.where(shape, some(len(COUNTS)), 0)
    out[:, 3] = torch.where(shape, some(len(SHAPES)), len(SHAPES))
    third = some(20)
    two, three = number, number & (third < 10)
    out[:, 1] = torch.where(two, 1 + three.long(), out[:, 1])
    out[:, 4] = torch.where(digit | number, some(10), len(DIGITS))
    out[:, 4] = torch.where(number, out[:, 4].clamp(min=1), out[:, 4])
    out[:, 5] = torch.where(two, some(10), len(DIGITS))
    out[:, 6] = torch.where(three, third, len(DIGITS))
    out[:, 7] = torch.where(word, some(len(WORDS)), len(WORDS))
    same = out[:, 2] == out[:, 8]
    out[same, 8] = (out[same, 8] + 1) % len(COLOURS)
    return out


def one_hot(slots: torch.Tensor) -> torch.Tensor:
    """Slot values [n, slots] as ideal codes [n, slots, codes]."""
    codes = torch.zeros(*slots.shape, RANGES[-1][1])
    first = torch.tensor([a for a, _ in RANGES])
    return codes.scatter_(2, (slots + first)[..., None], 1.0)


def first_table(trunk: Trunk, words: Words) -> torch.Tensor:
    """Word vectors to start from: [codes + 2, hidden]; the last two are <im_start>, <im_end>."""
    rows = []
    for name in code_names():
        slot, value = name.split(":")
        if slot in ("digit", "second", "third") and value != "-":
            ids = words.ids(str(DIGITS.index(value)))
        elif value == "-":
            ids = words.ids("\n")
        else:
            ids = words.ids(" " + value)
        rows.append(trunk.embedding[ids].mean(0))
    rows += [trunk.embedding[words.ids("\n")].mean(0)] * 2
    return torch.stack(rows).clone()


SYSTEMS = [
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    "You are a helpful assistant.",
    "Answer the user's questions about the picture.",
    "You are a careful assistant. Be brief.",
]
"""System texts; the first is the chat template's own."""


@dataclass
class Talk:
    """Questions and answers (with the word that makes each right) about one picture."""

    turns: list[tuple[str, str, str]]
    image_first: bool = True
    gap: bool = False
    """Whether a line break stands between image and question."""


class Tuner:
    """The trunk with a learnt table, and how to ask it."""

    def __init__(self, trunk: Trunk, words: Words, table: torch.Tensor):
        self.trunk, self.words = trunk, words
        self.table = table.clone().requires_grad_()
        starts = [f"<|im_start|>system\n{text}<|im_end|>\n{USER}" for text in SYSTEMS]
        self.systems = [torch.tensor(words.ids(text)) for text in starts]

    def start(self, system: int) -> Cache:
        """The cache behind a system text and the start of the user's turn."""
        with torch.no_grad():
            return self.trunk.hidden_states(self.trunk.embedding[self.systems[system]][None])[1]

    def text_loss(self, ids: torch.Tensor) -> torch.Tensor:
        """How far the additions move the next-token distributions of plain text [n, t]: KL."""
        x = self.trunk.embedding[ids]
        adapter, self.trunk.adapter = self.trunk.adapter, None
        with torch.no_grad():
            before = F.log_softmax(self.trunk.logits(self.trunk.hidden_states(x)[0]), -1)
        self.trunk.adapter = adapter
        after = F.log_softmax(self.trunk.logits(self.trunk.hidden_states(x)[0]), -1)
        return F.kl_div(after, before, reduction="none", log_target=True).sum(-1).mean()

    def image(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes [n, tokens, codes] as embeddings with their two marks: [n, tokens + 2, hidden]."""
        n = len(codes)
        marks = self.table[-2:].expand(n, -1, -1)
        return torch.cat([marks[:, :1], codes @ self.table[:-2], marks[:, 1:]], 1)

    def loss(self, codes: torch.Tensor, talks: list[Talk], system: int = 0) -> torch.Tensor:
        """Mean loss of the answers."""
        rows, targets, image = [], [], self.image(codes)
        for i, talk in enumerate(talks):
            parts, said = [], []
            for turn, (question, answer, _) in enumerate(talk.turns):
                q = self.words.ids(question)
                tail = self.words.ids(TAIL)
                a = [*self.words.ids(answer), self.words.stop]
                between = self.words.ids("\n" + USER) if turn else []
                head = [self.trunk.embedding[between + q]]
                if not turn:
                    gap = [self.trunk.embedding[self.words.ids("\n")]] if talk.gap else []
                    own = [image[i]]
                    head = own + gap + head if talk.image_first else head + gap + own
                parts += [*head, self.trunk.embedding[tail + a]]
                said += [-100] * (sum(map(len, head)) + len(tail) - 1) + a + [-100]
            # The state before a token says it, so targets stand one place to the left.
            rows.append(torch.cat(parts)[:-1])
            targets.append(torch.tensor(said[:-1]))
        x = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        t = torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=-100)
        states, _ = self.trunk.hidden_states(x, self.start(system))
        said = t != -100
        return F.cross_entropy(self.trunk.logits(states[said]), t[said])

    @torch.no_grad()
    def answers(self, codes: torch.Tensor, questions: list[str], first: bool = True) -> list[str]:
        """Greedy answers; pictures with questions of equal length run together."""
        image = self.image(codes)
        ids = [self.words.ids(q) for q in questions]
        out = [""] * len(ids)
        start = self.start(0)
        for length in {len(i) for i in ids}:
            rows = [i for i, q in enumerate(ids) if len(q) == length]
            q = self.trunk.embedding[torch.tensor([ids[i] for i in rows])]
            tail = self.trunk.embedding[self.words.ids(TAIL)].expand(len(rows), -1, -1)
            x = torch.cat([image[rows], q, tail] if first else [q, image[rows], tail], 1)
            for i, said in zip(rows, self.trunk.generate(x, start, self.words.stop)):
                out[i] = self.words.text(said)
        return out


def matches(said: str, key: str) -> bool:
    """Whether an answer says the key as a word of its own (a plural counts)."""
    import re

    return re.search(rf"(?<![\w]){re.escape(key)}(s|es)?(?![\w])", said, re.I) is not None


def test(tuner: Tuner, n: int, unseen: bool, first: bool, seed: int = 5, show: int = 0) -> dict:
    """Share of right answers per topic with ideal codes."""
    g = torch.Generator().manual_seed(seed)
    asker = Asker(seed, unseen)
    plan = [(0, "digit"), (1, "shape"), (1, "count"), (1, "colour"), (2, "digit"), (3, "word")]
    out, missed = {}, []
    for kind, topic in plan:
        shares = [0.0] * 4
        shares[kind] = 1.0
        slots = draw_slots(n, g, shares)
        asked = [asker.ask(s, topic) for s in slots.tolist()]
        said = tuner.answers(one_hot(slots), [a[0] for a in asked], first)
        ok = [matches(s, a[2]) for s, a in zip(said, asked)]
        out[f"{KINDS[kind]}.{topic}"] = round(sum(ok) / n, 3)
        missed += [(a[0], a[2], s) for a, s, k in zip(asked, said, ok) if not k]
    for line in missed[:show]:
        print("   ", line)
    return out


def plain_text(words: Words) -> torch.Tensor:
    """English prose as token ids: the topics of Python's own help (PSF licence)."""
    from pydoc_data.topics import topics

    return torch.tensor(words.ids("\n\n".join(topics[k] for k in sorted(topics))))


def pooled(a: argparse.Namespace, real: dict | None, g: torch.Generator, asker: Asker,
           words: Words) -> list[tuple[torch.Tensor, list[Talk], int]]:  # fmt: skip
    """Eight batches of talks about imagined (or the tower's) pictures, each of texts about
    equally long, in random order, and the system text to use."""
    n = 8 * a.batch
    slots = draw_slots(n, g)
    codes = one_hot(slots)
    codes = codes + a.noise * torch.randn(codes.shape, generator=g)
    if real:
        pick = torch.randint(len(real["slots"]), (n,), generator=g)
        mine = torch.rand(n, generator=g) < 0.7
        slots[mine], codes[mine] = real["slots"][pick][mine], real["codes"][pick][mine].float()
    chance = asker.random.random
    talks = []
    for s in slots.tolist():
        turns = [asker.ask(s) for _ in range(1 if chance() < 0.8 else 2)]
        talks.append(Talk(turns, chance() < 0.6, chance() < 0.3))
    length = [len(words.ids("".join(q + a + TAIL for q, a, _ in t.turns))) for t in talks]
    order = sorted(range(n), key=length.__getitem__)
    parts = [order[at : at + a.batch] for at in range(0, n, a.batch)]
    asker.random.shuffle(parts)
    return [(codes[p], [talks[i] for i in p],
             0 if chance() < 0.75 else asker.random.randrange(len(SYSTEMS)))
            for p in parts]  # fmt: skip


class Run:
    """One training run: what is saved and gone on from."""

    def __init__(self, a: argparse.Namespace):
        self.a, self.dir = a, a.dir
        trunk, self.words = Trunk(a.gguf), Words(a.tokenizer)
        self.tuner = Tuner(trunk, self.words, first_table(trunk, self.words))
        self.additions = trunk.adapt(a.rank) if a.rank else []
        groups = [
            {"params": [self.tuner.table], "rate": a.rate},
            {"params": self.additions, "rate": a.adapter_rate},
        ]
        self.optimiser = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.98))
        self.text = plain_text(self.words) if a.rank else None
        self.done = 0
        self.dir.mkdir(parents=True, exist_ok=True)
        if (self.dir / "words_state.pt").exists():
            state = torch.load(self.dir / "words_state.pt", weights_only=False)
            self.tuner.table.data.copy_(state["table"])
            for mine, theirs in zip(self.additions, state["additions"]):
                mine.data.copy_(theirs)
            self.optimiser.load_state_dict(state["optimiser"])
            for group, rate in zip(self.optimiser.param_groups, (a.rate, a.adapter_rate)):
                group["rate"] = rate
            self.done = state["done"]
        elif a.start:
            learnt = torch.load(a.start)
            self.tuner.table.data.copy_(learnt["table"])
            for name, own in trunk.adapter_tensors().items():
                own.copy_(learnt[name])
        self.begun = self.done
        self.random = torch.Generator().manual_seed(a.seed * 1000 + self.done)
        self.asker = Asker(a.seed * 1000 + self.done)
        self.real = torch.load(a.codes) if a.codes else None
        self.pool: list = []

    def save(self) -> None:
        state = {
            "table": self.tuner.table.data, "optimiser": self.optimiser.state_dict(),
            "done": self.done, "additions": [x.data for x in self.additions],
        }  # fmt: skip
        result = {"table": self.tuner.table.data, **self.tuner.trunk.adapter_tensors()}
        for value, name in ((state, "words_state.pt"), (result, "words.pt")):
            torch.save(value, self.dir / (name + ".partial"))
            os.replace(self.dir / (name + ".partial"), self.dir / name)

    def step(self) -> tuple[str, float]:
        """One batch; returns what it was of ("talk" or "text") and its loss."""
        a, here = self.a, self.done - self.begun
        fall = 1 - here / a.steps if a.finish else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * min(1.0, (here + 1) / 10) * fall
        self.optimiser.zero_grad()
        if self.text is not None and self.done % 2:
            at = torch.randint(len(self.text) - 64, (4, 1), generator=self.random)
            kind, weight = "text", a.text_weight
            loss = self.tuner.text_loss(self.text[at + torch.arange(64)])
        else:
            if not self.pool:
                self.pool = pooled(a, self.real, self.random, self.asker, self.words)
            kind, weight = "talk", 1.0
            loss = self.tuner.loss(*self.pool.pop())
        (weight * loss).backward()
        self.optimiser.step()
        with torch.no_grad():
            for up in self.additions[1::2]:
                up.mul_(1 - a.shrink)
        self.done += 1
        return kind, float(loss.detach())

    def report(self) -> None:
        for unseen in (False, True):
            for first in (True, False):
                result = test(self.tuner, 12, unseen, first, show=3)
                print("unseen" if unseen else "seen", "image first" if first else "text first",
                      result, flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="go on from WORDS.pt, with a fresh optimiser")
    parser.add_argument("--steps", type=int, default=10**9, help="0 only reports")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--adapter-rate", type=float, default=2e-3)
    parser.add_argument("--shrink", type=float, default=0.0, help="share taken off in a step")
    parser.add_argument("--text-weight", type=float, default=3.0)
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument("--codes", type=Path, help="codes [n, slots, codes] and slots of a tower")
    parser.add_argument("--finish", action="store_true", help="let the rate fall to 0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    run = Run(a)
    stop: list[int] = []
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stop.append(1))
    told = saved = time.monotonic()
    losses: dict[str, list[float]] = {"talk": [], "text": []}
    while run.done - run.begun < a.steps and not stop:
        kind, loss = run.step()
        losses[kind].append(loss)
        if time.monotonic() - told > 60:
            means = {k: round(sum(v) / len(v), 3) for k, v in losses.items() if v}
            print(run.done, means, flush=True)
            told, losses = time.monotonic(), {"talk": [], "text": []}
        if time.monotonic() - saved > 120:
            run.save()
            saved = time.monotonic()
    run.save()
    if not stop:
        run.report()


if __name__ == "__main__":
    main()
