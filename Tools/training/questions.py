"""Plain questions about a picture, and their answers, from what the picture shows.

Some wordings are kept for the held-out test ("unseen phrasing"): `HELD_OUT` of every list.
"""

from __future__ import annotations

import random

from scenes import SLOTS

VALUES = dict(SLOTS)
PLURAL = {"cross": "crosses"}
HELD_OUT = 3
"""The last wordings of each list are only asked in tests."""

IMAGE = ["picture", "image", "picture", "image", "photo"]

DIGIT = [
    "What digit is this?", "What digit is in the {im}?", "Which digit is shown in the {im}?",
    "What number is this?", "What number is in the {im}?", "Which number do you see?",
    "What digit do you see in this {im}?", "Read the digit.", "Read the number in the {im}.",
    "What is the digit in this {im}?", "Identify the digit.", "What is written in the {im}?",
    "Which digit is it?", "Can you tell me which digit this is?", "Recognize the digit.",
    "What does the {im} say?", "What handwritten digit is this?", "Tell me the digit.",
    "What number does the {im} show?", "Which digit does this {im} contain?",
    "Can you read this number?",
]  # fmt: skip
SHAPE = [
    "What shape is this?", "What shape is in the {im}?", "Which shape do you see?",
    "What shape is shown in the {im}?", "What shapes are in the {im}?", "Name the shape.",
    "What kind of shape is in the {im}?", "Which shape is it?", "Identify the shape.",
    "What shapes do you see?", "What is the shape in this {im}?", "What kind of shapes are these?",
    "Can you tell me what shape this is?", "Which shape is drawn in this {im}?",
    "What shape does the {im} contain?",
]  # fmt: skip
COUNT = [
    "How many {n} are there?", "How many {n} are in the {im}?", "How many {n} do you see?",
    "Count the {n}.", "What is the number of {n} in the {im}?", "How many {n} are in this {im}?",
    "How many {n} can you see in the {im}?", "Count the {n} in the {im}.",
    "How many {n} are shown?", "How many {n} does the {im} have?", "Tell me how many {n} there are.",
    "How many {n} are visible in the {im}?",
]  # fmt: skip
COLOUR = [
    "What color {is} the {n}?", "What color {is} the {n} in the {im}?", "What colour {is} the {n}?",
    "Which color {is} the {n}?", "What is the color of the {n}?", "Tell me the color of the {n}.",
    "What is the color of the {n} in this {im}?", "Name the color of the {n}.",
    "Which color {does} the {n} have?", "In what color {is} the {n} drawn?",
]  # fmt: skip
GROUND = [
    "What color is the background?", "What is the background color?",
    "What is the color of the background?", "Which color is the background of the {im}?",
    "What colour is the background?", "What color is behind it?",
    "Tell me the background color.", "What color does the background have?",
]  # fmt: skip
DESCRIBE = [
    "Describe the {im}.", "What do you see?", "What is in the {im}?", "What does the {im} show?",
    "Describe this {im}.", "What is this?", "What can you see in this {im}?",
    "What is shown in the {im}?", "Please describe the {im}.", "What is in this {im}?",
    "Give a short caption.", "What do you see in the {im}?", "Tell me about this {im}.",
    "What is depicted in the {im}?",
]  # fmt: skip
WORD = [
    "What word is this?", "What does it say?", "What does the {im} say?", "Read the word.",
    "What is written in the {im}?", "Read the text in the {im}.", "Which word do you see?",
    "What word is in the {im}?", "What text is in the {im}?", "What is the word in this {im}?",
    "Read the text.", "Which word is shown in the {im}?", "What is the text in this {im}?",
    "Can you read the word?",
]  # fmt: skip
PRESENT = ["Is there a {n} in the {im}?", "Do you see a {n}?", "Is this a {n}?",
           "Can you see a {n} in the {im}?", "Does the {im} show a {n}?",
           "Is a {n} visible?"]  # fmt: skip
SHORT = [" Answer in one word.", " Answer with one word.", " One word only.", " Answer briefly.",
         " Reply with only the answer.", " Just the answer."]  # fmt: skip


def plural(noun: str, count: int) -> str:
    return noun if count == 1 else PLURAL.get(noun, noun + "s")


class Asker:
    """Draws questions; `unseen` takes the held-out wordings."""

    def __init__(self, seed: int, unseen: bool = False):
        self.random = random.Random(seed)
        self.unseen = unseen

    def one(self, wordings: list[str], **words: str) -> str:
        pool = wordings[-HELD_OUT:] if self.unseen else wordings[:-HELD_OUT]
        return self.random.choice(pool).format(im=self.random.choice(IMAGE), **words)

    def ask(self, slots: list[int], topic: str | None = None) -> tuple[str, str, str]:
        """(question, answer, the word that makes it right) for one picture's slot values."""
        v = {s: (x[i] if i < len(x) else None) for (s, x), i in zip(SLOTS, slots)}
        return getattr(self, "ask_" + v["kind"])(v, slots, topic)

    def short(self, question: str, full: str, key: str, share: float = 0.2):
        if not self.unseen and self.random.random() < share:
            return question + self.random.choice(SHORT), key, key
        return question, full, key

    def about_ground(self, v):
        full = f"The background is {v['ground']}."
        return self.short(self.one(GROUND), full, v["ground"])

    def about_colour(self, v, nouns: str, many: bool):
        verb = {"is": "are", "does": "do"} if many else {"is": "is", "does": "does"}
        question = self.one(COLOUR, n=nouns, **verb)
        return self.short(question, f"The {nouns} {verb['is']} {v['colour']}.", v["colour"])

    def topic(self, given: str | None, shares: dict[str, float]) -> str:
        return given or self.random.choices(list(shares), list(shares.values()))[0]

    def ask_digit(self, v, slots, topic=None):
        digit = str(slots[4])
        topic = self.topic(topic, {"digit": 6, "colour": 1, "ground": 1, "describe": 2, "yes": 1,
                                   "count": 0.5})  # fmt: skip
        if topic == "colour":
            return self.about_colour(v, self.random.choice(["digit", "number"]), False)
        if topic == "ground":
            return self.about_ground(v)
        if topic == "describe":
            return self.one(DESCRIBE), (
                f"The picture shows the digit {digit} in {v['colour']} on a {v['ground']} "
                "background."
            ), digit  # fmt: skip
        if topic == "count":
            return self.short(self.one(COUNT, n="digits"), "There is 1 digit.", "1")
        if topic == "yes":
            other = self.random.choice([digit, str(self.random.randrange(10))])
            sure = "Yes" if other == digit else "No"
            return f"Is this {self.random.choice(['a', 'the digit', 'the number'])} {other}?", (
                f"{sure}, the digit is {digit}."), sure  # fmt: skip
        question = self.one(DIGIT)
        noun = "number" if "number" in question else "digit"
        return self.short(question, f"The {noun} is {digit}.", digit)

    def ask_shape(self, v, slots, topic=None):
        count, shape, colour = slots[1] + 1, v["shape"], v["colour"]
        nouns = plural(shape, count)
        there = "There is" if count == 1 else "There are"
        topic = self.topic(topic, {"shape": 3, "count": 4, "colour": 3, "ground": 1, "describe": 2,
                                   "yes": 1})  # fmt: skip
        if topic == "ground":
            return self.about_ground(v)
        if topic == "colour":
            if self.random.random() < 0.25:
                question = self.one(COLOUR, n="shape" if count == 1 else "shapes",
                                    **({"is": "is", "does": "does"} if count == 1
                                       else {"is": "are", "does": "do"}))  # fmt: skip
                verb = "is" if count == 1 else "are"
                return self.short(question, f"The {nouns} {verb} {colour}.", colour)
            return self.about_colour(v, nouns, count > 1)
        if topic == "count":
            noun = self.random.choice([shape, shape, shape, "shape", "shape", "object"])
            if not self.unseen and self.random.random() < 0.12:
                other = self.random.choice([s for s in VALUES["shape"] if s != shape])
                many = plural(other, 2)
                return self.one(COUNT, n=many), f"There are no {many}.", "no"
            adjective = colour + " " if self.random.random() < 0.2 else ""
            question = self.one(COUNT, n=adjective + plural(noun, 2))
            full = f"{there} {count} {plural(noun, count)}."
            return self.short(question, full, str(count))
        if topic == "describe":
            article = {1: "1"}.get(count, str(count))
            return self.one(DESCRIBE), (
                f"The picture shows {article} {colour} {nouns} on a {v['ground']} background."
            ), shape  # fmt: skip
        if topic == "yes":
            if self.random.random() < 0.5:
                other = self.random.choice([shape, self.random.choice(VALUES["shape"])])
                sure = "Yes" if other == shape else "No"
                verb = "is" if count == 1 else "are"
                noun = "shape" if count == 1 else "shapes"
                tail = f"the {noun} {verb} a {shape}." if count == 1 else f"the shapes are {nouns}."
                return self.one(PRESENT, n=other), f"{sure}, {tail}", sure
            other = self.random.choice([colour, self.random.choice(VALUES["colour"])])
            sure = "Yes" if other == colour else "No"
            verb = "is" if count == 1 else "are"
            return (f"{verb.capitalize()} the {nouns} {other}?",
                    f"{sure}, the {nouns} {verb} {colour}.", sure)  # fmt: skip
        question = self.one(SHAPE)
        full = f"The shape is a {shape}." if count == 1 else f"The shapes are {nouns}."
        return self.short(question, full, shape)

    def ask_number(self, v, slots, topic=None):
        digits = [d for d in slots[4:7] if d < 10]
        number = "".join(map(str, digits))
        topic = self.topic(topic, {"digit": 5, "colour": 1, "ground": 1, "describe": 2, "count": 1})
        if topic == "colour":
            return self.about_colour(v, "number", False)
        if topic == "ground":
            return self.about_ground(v)
        if topic == "describe":
            return self.one(DESCRIBE), (
                f"The picture shows the number {number} in {v['colour']} on a {v['ground']} "
                "background."
            ), number  # fmt: skip
        if topic == "count":
            return self.short(self.one(COUNT, n="digits"), f"There are {len(digits)} digits.",
                              str(len(digits)))  # fmt: skip
        question = self.one([q for q in DIGIT if "digit" not in q])
        return self.short(question, f"The number is {number}.", number)

    def ask_word(self, v, slots, topic=None):
        word = v["word"]
        topic = self.topic(topic, {"word": 5, "colour": 1, "ground": 1, "describe": 2})
        if topic == "colour":
            return self.about_colour(v, self.random.choice(["word", "text"]), False)
        if topic == "ground":
            return self.about_ground(v)
        if topic == "describe":
            return self.one(DESCRIBE), (
                f'The picture shows the word "{word}" in {v["colour"]} on a {v["ground"]} '
                "background."
            ), word  # fmt: skip
        return self.short(self.one(WORD), f'The word is "{word}".', word)
