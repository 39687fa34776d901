#!/usr/bin/env python3
"""Trains the vision tower to say what a picture shows, in codes (see tower.py, scenes.py).

    python train_tower.py DIR                       until stopped, learning rate constant
    python train_tower.py DIR --finish 30           30 more minutes with the rate falling to 0
    python train_tower.py DIR --start WEIGHTS.pt    from weights, with fresh optimiser state

State (weights, averages, optimisers, random numbers) goes to DIR/state.pt every three minutes and
at the end; the next call goes on from it. The averaged weights are DIR/tower.pt.

The loss of a picture: squared distance of every image token's codes to the code it should say,
cross-entropy within its slot; after two layers, where each patch is inked (which teaches outlines
whatever the colours); before the last layer, what covers a patch and whether an object has its
middle there. The heads of the last three exist in training only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from scenes import (
    KINDS,
    SHAPES,
    SLOTS,
    Batch,
    Scenes,
    code_names,
    normalised,
    one_hot,
    slot_ranges,
    slot_tokens,
)
from torch import nn
from tower import Tower, TowerShape

COVERS = 1 + len(SHAPES) + 10 + 1
RANGES, TOKENS = slot_ranges(), slot_tokens()
FIRST = {slot: token for token, slot in reversed(TOKENS)}


class Trainer(nn.Module):
    """A tower and the heads that only training needs."""

    def __init__(self, shape: TowerShape):
        super().__init__()
        self.tower = Tower(shape)
        self.cover = nn.Linear(shape.hidden, COVERS)
        self.centre = nn.Linear(shape.hidden, 1)
        self.ink = nn.Linear(shape.hidden, 16)

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        s = self.tower.shape
        codes, (early, patches) = self.tower(normalised(batch.pixels), (2, s.layers - 1))
        words = 0.0
        for token, i in TOKENS:
            a, b = RANGES[i]
            weight = 2.0 if SLOTS[i][0] in ("count", "shape", "digit", "word") else 1.0
            said = F.cross_entropy(6 * codes[:, token, a:b], batch.slots[:, i])
            words = words + weight * said
        square = (codes - one_hot(batch.slots)).square().sum(-1).mean() * len(RANGES)
        p = s.patch_size
        cover = F.max_pool2d(batch.cover[:, None].float(), p).flatten(1).long()
        share = torch.ones(COVERS)
        share[0] = 0.15  # most patches are ground
        what = F.cross_entropy(self.cover(patches).flatten(0, 1), cover.flatten(), share)
        where = F.binary_cross_entropy_with_logits(
            self.centre(patches)[..., 0], batch.centres.flatten(1), pos_weight=torch.tensor(4.0)
        )
        # Where a patch is inked, whatever the colours: [n, grid, 4, grid, 4] to [n, grid², 16].
        ink = F.avg_pool2d((batch.cover[:, None] > 0).float(), p // 4)
        ink = ink.view(len(ink), s.grid, 4, s.grid, 4).transpose(2, 3).flatten(3).flatten(1, 2)
        drawn = F.binary_cross_entropy_with_logits(self.ink(early), ink)
        total = words + square + 2 * what + 4 * where + 8 * drawn
        names = ("words", "square", "what", "where", "drawn")
        parts = zip(names, (words, square, what, where, drawn))
        return total, {k: float(v.detach()) for k, v in parts}


def draw(scenes: Scenes, n: int, seen: int, mix: list[float]) -> Batch:
    """One batch: digits, shapes, numbers and words in the shares of `mix`."""
    low = max(0.4, 0.8 - seen / 40000 * 0.45)
    loose = min(1.0, 0.2 + seen / 20000)
    kinds = torch.multinomial(torch.tensor(mix), n, True, generator=scenes.random)
    of = kinds.bincount(minlength=len(KINDS))
    makers = (lambda k: scenes.digits(k, low, loose), scenes.shapes, scenes.numbers, scenes.words)
    return Batch.cat([make(int(k)) for make, k in zip(makers, of) if k])


@torch.no_grad()
def right(tower: Tower, batch: Batch) -> dict[str, float]:
    """Share of pictures whose code is right, for each slot and for all slots that say something."""
    hits = []
    for at in range(0, len(batch.pixels), 64):
        codes, _ = tower(normalised(batch.pixels[at : at + 64]))
        said = [codes[:, FIRST[i], a:b].argmax(-1) for i, (a, b) in enumerate(RANGES)]
        hits.append(torch.stack(said, 1))
    hits = torch.cat(hits) == batch.slots
    out = {slot: float(hits[:, i].float().mean()) for i, (slot, _) in enumerate(SLOTS)}
    out["all"] = float(hits.all(1).float().mean())
    return out


def held_out(size: int, grid: int) -> dict[str, Batch]:
    """Pictures from scans and fonts that training never sees."""
    scenes = Scenes(size, 99, held_out=True, grid=grid, printed_share=0.0)
    out = {"scans": whole_scans(scenes), "loose scans": scenes.digits(400)}
    scenes.printed_share = 1.0
    return out | {"printed": scenes.digits(150), "shapes": scenes.shapes(400)}


def whole_scans(scenes: Scenes) -> Batch:
    """All held-out scans, each filling its picture, white on black."""
    n = len(scenes.scan_digits)
    ink = scenes.scans[2].float()[:, None] / 255
    pixels = F.interpolate(ink, size=scenes.size, mode="bilinear")
    pixels = pixels.expand(-1, 3, -1, -1).contiguous()
    colours = dict(SLOTS)["colour"]
    slots = scenes.labels(n, kind=0, colour=colours.index("white"),
                          digit=scenes.scan_digits, ground=colours.index("black"))  # fmt: skip
    empty = torch.zeros(n, scenes.size, scenes.size, dtype=torch.long)
    return Batch(pixels, slots, empty, torch.zeros(n, scenes.grid, scenes.grid))


def summary(tower: Tower, tests: dict[str, Batch]) -> dict[str, float]:
    """The figures that matter, one per kind of picture."""
    out = {}
    for name, batch in tests.items():
        r = right(tower, batch)
        if name in ("scans", "loose scans", "printed"):
            out[name] = r["digit"]
        else:
            out |= {f"shapes.{k}": r[k] for k in ("count", "colour", "shape", "all")}
    return {k: round(v, 3) for k, v in out.items()}


def optimisers(trainer: Trainer) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [p for n, p in trainer.named_parameters() if ".blocks." in n and p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in trainer.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=1.0, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=1.0, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


class Run:
    """One training run: what is saved and gone on from."""

    def __init__(self, a: argparse.Namespace):
        torch.manual_seed(a.seed)
        shape = TowerShape(codes=len(code_names()))
        self.dir, self.batch, self.seconds = a.dir, a.batch, 60 * a.finish
        self.start = time.monotonic()
        self.rate = a.rate
        self.mix = [float(x) for x in a.mix.split(",")]
        assert len(self.mix) == len(KINDS), "--mix needs a share for every kind of picture"
        self.trainer, self.average = Trainer(shape), Tower(shape)
        self.optimisers = optimisers(self.trainer)
        self.scenes = Scenes(shape.image_size, a.seed, grid=shape.grid)
        self.tests = held_out(shape.image_size, shape.grid)
        self.seen = 0
        a.dir.mkdir(parents=True, exist_ok=True)
        if (a.dir / "state.pt").exists():
            self.load()
        else:
            if a.start:
                self.trainer.tower.load_state_dict(torch.load(a.start))
                self.seen = a.seen
            self.average.load_state_dict(self.trainer.tower.state_dict())
        self.begun = self.seen

    def load(self) -> None:
        state = torch.load(self.dir / "state.pt", weights_only=False)
        self.trainer.load_state_dict(state["trainer"])
        self.average.load_state_dict(state["average"])
        for optimiser, own in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(own)
        self.scenes.random.set_state(state["random"])
        self.seen = state["seen"]

    def save(self) -> None:
        state = {
            "trainer": self.trainer.state_dict(), "average": self.average.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers], "seen": self.seen,
            "random": self.scenes.random.get_state(),
        }  # fmt: skip
        for value, name in ((state, "state.pt"), (self.average.state_dict(), "tower.pt")):
            torch.save(value, self.dir / (name + ".partial"))
            os.replace(self.dir / (name + ".partial"), self.dir / name)

    def report(self) -> None:
        print("held out", self.seen, json.dumps(summary(self.average, self.tests)), flush=True)

    @property
    def is_done(self) -> bool:
        return bool(self.seconds) and time.monotonic() - self.start >= self.seconds

    def step(self) -> dict[str, float]:
        """One batch; returns the parts of its loss."""
        done = self.seen - self.begun
        warm = min(1.0, (done + self.batch) / (500 if self.begun else 8000))
        fall = 1.0
        if self.seconds:
            fall = max(0.0, 1 - (time.monotonic() - self.start) / self.seconds)
        for optimiser in self.optimisers:
            optimiser.param_groups[0]["lr"] = self.rate * warm * fall
        batch = draw(self.scenes, self.batch, self.seen, self.mix)
        loss, parts = self.trainer.loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trainer.parameters(), 5.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.seen += self.batch
        steps = self.seen / self.batch
        keep = min(0.998, (steps + 1) / (steps + 20))
        with torch.no_grad():
            for mine, theirs in zip(self.average.parameters(), self.trainer.tower.parameters()):
                mine.lerp_(theirs, 1 - keep)
        return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--seen", type=int, default=40000, help="pictures behind --start")
    parser.add_argument("--finish", type=float, default=0, metavar="MINUTES")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--mix", default="40,60,0,0", help="digits, shapes, numbers, words")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    run = Run(a)
    count = sum(p.numel() for p in run.average.parameters())
    print(f"from picture {run.seen}, {count} parameters", flush=True)
    stop: list[int] = []
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stop.append(1))
    saved = told = tested = time.monotonic()
    sums: dict[str, float] = {}
    steps = 0
    while not stop and not run.is_done:
        for name, part in run.step().items():
            sums[name] = sums.get(name, 0.0) + part
        steps += 1
        now = time.monotonic()
        if now - told > 30:
            line = {name: round(part / steps, 3) for name, part in sums.items()}
            print(f"{run.seen} {steps * run.batch / (now - told):.0f}/s {line}", flush=True)
            sums, steps, told = {}, 0, now
        if now - tested > 600:
            run.report()
            tested = time.monotonic()
        if now - saved > 180:
            run.save()
            saved = time.monotonic()
    run.save()
    if not stop:
        run.report()


if __name__ == "__main__":
    main()
