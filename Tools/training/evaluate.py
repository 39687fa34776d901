#!/usr/bin/env python3
"""Measures what a served model sees: held-out pictures and plain questions through the HTTP API.

    python evaluate.py [--url http://localhost:8000/v1] [--each 100] [--misses 5]

Pictures are PNG files of various sizes and shapes, as a person would drop them: every scan of
scikit-learn's `digits` that training never saw, in several sizes and colours, and printed digits,
numbers, words and shapes from fonts and random numbers that training never used, drawn by another
program (Pillow) than the one that made the training pictures. Both orders of text and image, and
wordings that training used and did not use, are asked. Prints one JSON line per group.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import math
import random
import re
import time

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from questions import Asker, plural
from scenes import COLOURS, COUNTS, DIGITS, KINDS, SHAPES, SLOTS, WORDS, font_files

COLOUR_NAMES = list(COLOURS)
PLAIN = {
    "digit": ["What digit is this?", "What digit is in the picture?", "Which number is shown?",
              "Read the digit in the image."],
    "shape": ["What shape is in the picture?", "What shape is this?", "Name the shape."],
    "count": ["How many {n} are there?", "How many {n} are in the picture?", "Count the {n}."],
    "colour": ["What color {is} the {n}?", "What is the color of the {n}?"],
    "number": ["What number is this?", "What number is in the picture?"],
    "word": ["What word is this?", "What does it say?", "Read the word."],
}  # fmt: skip
"""The questions that a person asks first."""


def slots(kind: str, **values: int) -> list[int]:
    named = {"kind": KINDS.index(kind), **values}
    return [named.get(slot, len(names)) for slot, names in SLOTS]


class Pictures:
    """Draws held-out pictures with Pillow."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        from sklearn.datasets import load_digits

        data = load_digits()
        self.scans = data.images[-397:] / 16 * 255
        self.targets = data.target[-397:]
        self.fonts = [f for i, f in enumerate(font_files()) if i % 6 == 5]
        self.next_scan = 0

    def rgb(self, colour: int) -> tuple[int, int, int]:
        return self.random.choice(list(COLOURS.values())[colour])

    def two_colours(self) -> tuple[int, int]:
        ground = COLOUR_NAMES.index(self.random.choice(["white", "white", "black", "white"]))
        return ground, self.random.choice([i for i in range(len(COLOURS)) if i != ground])

    def scan(self, whole: bool = True) -> tuple[Image.Image, list[int]]:
        i = self.next_scan % len(self.scans)
        self.next_scan += 1
        side = self.random.choice([64, 96, 128, 224, 256, 400])
        way = self.random.choice([0, 2, 3])
        ink = Image.fromarray(self.scans[i].astype(np.uint8)).resize((side, side), way)
        white, black = COLOUR_NAMES.index("white"), COLOUR_NAMES.index("black")
        dark = self.random.random() < 0.5
        if not whole:
            frame = Image.new("L", (300, 300), 0)
            small = ink.resize((w := self.random.randrange(120, 260), w))
            frame.paste(small, (self.random.randrange(300 - w), self.random.randrange(300 - w)))
            ink = frame
        if not dark:
            ink = Image.eval(ink, lambda v: 255 - v)
        colour, ground = (white, black) if dark else (black, white)
        return ink.convert("RGB"), slots(
            "digit", count=0, colour=colour, digit=int(self.targets[i]), ground=ground
        )

    def text(self, kind: str) -> tuple[Image.Image, list[int]]:
        ground, ink = self.two_colours()
        if kind == "word":
            word = self.random.randrange(len(WORDS))
            text = self.random.choice([str.lower, str.upper, str.capitalize])(WORDS[word])
            values = slots("word", count=0, colour=ink, word=word, ground=ground)
        elif kind == "number":
            text = str(self.random.randrange(10, 1000))
            d = [int(c) for c in text] + [len(DIGITS)]
            values = slots("number", count=len(text) - 1, colour=ink, digit=d[0], second=d[1],
                           third=d[2], ground=ground)  # fmt: skip
        else:
            digit = self.random.randrange(10)
            text = str(digit)
            values = slots("digit", count=0, colour=ink, digit=digit, ground=ground)
        side = self.random.choice([128, 224, 256, 400])
        font = ImageFont.truetype(self.random.choice(self.fonts), side)
        left, top, right, bottom = font.getbbox(text)
        room = side * self.random.uniform(0.7, 0.9) / max(right - left, bottom - top)
        font = font.font_variant(size=int(side * room))
        left, top, right, bottom = font.getbbox(text)
        image = Image.new("RGB", (side, side), self.rgb(ground))
        x = self.random.uniform(0.02, max(0.03, 0.98 - (right - left) / side)) * side - left
        y = self.random.uniform(0.02, max(0.03, 0.98 - (bottom - top) / side)) * side - top
        ImageDraw.Draw(image).text((x, y), text, self.rgb(ink), font=font)
        return image, values

    def shapes(self) -> tuple[Image.Image, list[int]]:
        ground, ink = self.two_colours()
        shape, count = self.random.randrange(len(SHAPES)), self.random.randrange(len(COUNTS)) + 1
        side = self.random.choice([160, 224, 320, 480])
        big = 4 * side
        image = Image.new("RGB", (big, big), self.rgb(ground))
        draw, colour = ImageDraw.Draw(image), self.rgb(ink)
        low, high = (0.12, 0.4) if count == 1 else (0.07, 0.2 if count < 4 else 0.14)
        while True:
            places: list[tuple[float, float, float]] = []
            for _ in range(400):
                r = self.random.uniform(low, high)
                x, y = (self.random.uniform(r * 1.2, 1 - r * 1.2) for _ in "xy")
                if all(math.hypot(x - a, y - b) > 1.35 * (r + c) for a, b, c in places):
                    places.append((x, y, r))
                if len(places) == count:
                    break
            if len(places) == count:
                break
            high *= 0.9
        for x, y, r in places:
            self.draw(draw, SHAPES[shape], x * big, y * big, r * big, colour)
        image = image.resize((side, side), Image.Resampling.LANCZOS)
        return image, slots("shape", count=count - 1, colour=ink, shape=shape, ground=ground)

    def draw(self, draw, shape: str, x: float, y: float, r: float, colour) -> None:
        turn = self.random.uniform(-0.25, 0.25)

        def star(radii: list[float], start: float) -> list[tuple[float, float]]:
            k = len(radii)
            return [(x + a * r * math.cos(start + turn + 2 * math.pi * i / k),
                     y + a * r * math.sin(start + turn + 2 * math.pi * i / k))
                    for i, a in enumerate(radii)]  # fmt: skip

        if shape == "circle":
            draw.ellipse([x - r, y - r, x + r, y + r], colour)
        elif shape == "square":
            draw.polygon(star([1.2] * 4, math.pi / 4), colour)
        elif shape == "triangle":
            draw.polygon(star([1.15] * 3, -math.pi / 2), colour)
        elif shape == "star":
            draw.polygon(star([1.15, 0.46] * 5, -math.pi / 2), colour)
        elif shape == "cross":
            w = 0.33 * r
            draw.rectangle([x - r, y - w, x + r, y + w], colour)
            draw.rectangle([x - w, y - r, x + w, y + r], colour)
        else:
            t = [2 * math.pi * i / 90 for i in range(90)]
            draw.polygon([(x + r * math.sin(a) ** 3, y - r / 16 * (13 * math.cos(a)
                          - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)))
                          for a in t], colour)  # fmt: skip


def data_url(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def matches(said: str, key: str) -> bool:
    """Whether an answer says the key as a word of its own (a plural counts)."""
    return re.search(rf"(?<!\w){re.escape(key)}(s|es)?(?!\w)", said, re.I) is not None


def says(said: str, key: str) -> bool:
    """As `matches`; a number may be a word, and gray grey."""
    names = {str(i): name for i, name in enumerate(DIGITS)} | {"gray": "grey"}
    return matches(said, key) or (key in names and matches(said, names[key]))


def plain_question(rng: random.Random, topic: str, values: list[int]) -> tuple[str, str]:
    """A question that a person asks first, and the word that answers it."""
    question = rng.choice(PLAIN[topic])
    count, shape = values[1] + 1, (SHAPES + [""])[values[3]]
    if topic == "digit":
        return question, str(values[4])
    if topic == "number":
        return question, "".join(str(d) for d in values[4:7] if d < 10)
    if topic == "word":
        return question, WORDS[values[7]]
    if topic == "shape":
        return question, shape
    if topic == "colour":
        many = "are" if count > 1 else "is"
        return question.format(n=plural(shape, count), **{"is": many}), COLOUR_NAMES[values[2]]
    return question.format(n=plural(shape, 2)), str(count)


class Served:
    """A model behind the HTTP API."""

    def __init__(self, url: str):
        from openai import OpenAI

        self.client = OpenAI(base_url=url, api_key="none", max_retries=0, timeout=120)
        self.model = self.client.models.list().data[0].id

    def answers(self, asked: list[tuple[Image.Image, str, bool]]) -> list[str]:
        out = []
        for image, question, image_first in asked:
            picture = {"type": "image_url", "image_url": {"url": data_url(image)}}
            parts = [picture, {"type": "text", "text": question}]
            reply = self.client.chat.completions.create(
                model=self.model, temperature=0, max_tokens=32,
                messages=[{"role": "user", "content": parts if image_first else parts[::-1]}],
            )  # fmt: skip
            out.append(reply.choices[0].message.content or "")
        return out


class Examiner:
    """Asks about groups of pictures and prints the shares of right answers."""

    def __init__(self, subject: Served, seed: int, misses: int):
        self.subject, self.misses = subject, misses
        self.random, self.unseen = random.Random(seed), Asker(seed, unseen=True)

    def group(self, name: str, make, topic: str, n: int, wording: str = "plain") -> None:
        asked, keys = [], []
        for i in range(n):
            image, values = make()
            if wording == "plain":
                question, key = plain_question(self.random, topic, values)
            else:
                question, _, key = self.unseen.ask(values, topic)
            asked.append((image, question, bool(i % 2)))
            keys.append(key)
        begun = time.monotonic()
        said = self.subject.answers(asked)
        right = [says(s, key) for s, key in zip(said, keys)]
        line = {"group": name, "wording": wording, "asked": n, "right": sum(right),
                "share": round(sum(right) / n, 3),
                "seconds": round((time.monotonic() - begun) / n, 2)}  # fmt: skip
        print(json.dumps(line), flush=True)
        missed = [(a[1], k, s) for a, k, s, ok in zip(asked, keys, said, right) if not ok]
        for miss in missed[: self.misses]:
            print("   missed:", json.dumps(miss), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://localhost:8000/v1")
    parser.add_argument("--each", type=int, default=100, help="questions per group")
    parser.add_argument("--scans", type=int, default=397, help="held-out scans to ask")
    parser.add_argument("--misses", type=int, default=3, help="wrong answers to show per group")
    parser.add_argument("--only", default="", help="groups whose name has this")
    parser.add_argument("--seed", type=int, default=2024)
    a = parser.parse_args()
    subject = Served(a.url)
    pictures, examiner, n = Pictures(a.seed), Examiner(subject, a.seed, a.misses), a.each
    groups = [("scan fills the picture", pictures.scan, "digit", a.scans),
              ("scan anywhere", lambda: pictures.scan(False), "digit", n)]  # fmt: skip
    groups += [(f"shapes: {t}", pictures.shapes, t, n) for t in ("shape", "count", "colour")]
    for kind in ("digit", "number", "word"):
        groups.append((f"printed {kind}", lambda kind=kind: pictures.text(kind), kind, n))
    groups.append(("scan fills the picture", pictures.scan, "digit", n, "unseen"))
    for topic in ("shape", "count", "colour", "ground", "describe"):
        groups.append((f"shapes: {topic}", pictures.shapes, topic, n, "unseen"))
    for group in groups:
        if a.only in group[0]:
            examiner.group(*group)


if __name__ == "__main__":
    main()
