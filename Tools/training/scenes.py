"""Pictures and what they show: seeded, generated in batches with PyTorch.

A picture is plain or shaded ground with one digit (a real scan of scikit-learn's `digits`, or a
printed one), a printed number or word, or one to six equal shapes of one colour. Sprites (scans,
letters) are prepared once; place, size, angle, colours and noise are drawn for each picture.
"""

from __future__ import annotations

import glob
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

COLOURS = {
    "red": [(255, 0, 0), (220, 20, 40), (205, 30, 30), (230, 50, 50)],
    "orange": [(255, 165, 0), (255, 140, 0), (255, 125, 0), (240, 130, 25)],
    "yellow": [(255, 255, 0), (255, 230, 0), (240, 220, 40), (250, 240, 80)],
    "green": [(0, 128, 0), (0, 255, 0), (34, 139, 34), (50, 205, 50), (40, 160, 60), (0, 180, 80)],
    "blue": [(0, 0, 255), (30, 80, 220), (30, 144, 255), (0, 0, 170), (65, 105, 225),
             (40, 60, 200)],
    "purple": [(128, 0, 128), (148, 0, 211), (110, 30, 150), (150, 50, 190), (125, 40, 220)],
    "pink": [(255, 192, 203), (255, 105, 180), (255, 150, 190), (250, 130, 170)],
    "brown": [(139, 69, 19), (150, 75, 0), (120, 70, 30), (101, 67, 33), (165, 42, 42),
              (165, 42, 42), (160, 82, 45)],
    "black": [(0, 0, 0), (0, 0, 0), (20, 20, 20), (30, 30, 35)],
    "white": [(255, 255, 255), (255, 255, 255), (250, 250, 250), (244, 244, 244)],
    "gray": [(128, 128, 128), (160, 160, 160), (105, 105, 105), (190, 190, 190),
             (211, 211, 211)],
}
SHAPES = ["circle", "square", "triangle", "star", "heart", "cross"]
SHAPE_SHARES = torch.tensor([0.22, 0.22, 0.2, 0.14, 0.12, 0.1])
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
COUNTS = ["one", "two", "three", "four", "five", "six"]
WORDS = [
    "apple", "baby", "ball", "bank", "bird", "blue", "boat", "book", "bread", "bus", "cake", "car",
    "cat", "coffee", "cow", "dog", "door", "duck", "exit", "fire", "fish", "flower", "food", "green",
    "hat", "hello", "help", "home", "horse", "house", "king", "love", "milk", "moon", "music", "no",
    "open", "park", "police", "red", "school", "shop", "star", "stop", "sun", "taxi", "tea", "tree",
    "water", "yes",
]  # fmt: skip
KINDS = ["digit", "shape", "number", "word"]

# What can be said of a picture, one thing per slot.
SLOTS = [
    ("kind", KINDS),
    ("count", COUNTS),
    ("colour", list(COLOURS)),
    ("shape", SHAPES),
    ("digit", DIGITS),
    ("second", DIGITS),
    ("third", DIGITS),
    ("word", WORDS),
    ("ground", list(COLOURS)),
]
"""What an image token may say. Each has one more code, for "not in this picture"."""

LAYOUT = [
    "= shows", "count", "colour", "kind",
    "shape", "digit", "second", "third",
    "word", "= on", "ground", "= background",
    "= color", "colour", "= shape", "shape",
]  # fmt: skip
"""The image tokens in their order: a slot each, or a word (behind "=") that is always the same, so
that together they read as a caption: " shows 3 red circle on white background color red shape
circle". What is said twice is copied more surely."""

CONSTANTS = sorted({t for t in LAYOUT if t.startswith("=")})


def code_names() -> list[str]:
    """All codes in order: "slot:value", and "slot:-" for a slot that says nothing."""
    slots = [f"{slot}:{v}" for slot, values in SLOTS for v in [*values, "-"]]
    return slots + [f"always:{t[1:]}" for t in CONSTANTS]


def one_hot(slots: torch.Tensor) -> torch.Tensor:
    """Slot values [n, slots] as ideal codes [n, tokens, codes]."""
    codes = torch.zeros(len(slots), len(LAYOUT), len(code_names()))
    ranges, names = slot_ranges(), [slot for slot, _ in SLOTS]
    for token, part in enumerate(LAYOUT):
        if part in CONSTANTS:
            codes[:, token, ranges[-1][1] + CONSTANTS.index(part)] = 1
        else:
            slot = names.index(part)
            codes[torch.arange(len(slots)), token, ranges[slot][0] + slots[:, slot]] = 1
    return codes


def slot_tokens() -> list[tuple[int, int]]:
    """Which image tokens say a slot: (token, slot)."""
    names = [slot for slot, _ in SLOTS]
    return [(token, names.index(part)) for token, part in enumerate(LAYOUT) if part in names]


def slot_ranges() -> list[tuple[int, int]]:
    """First and one past the last code of each slot."""
    out, start = [], 0
    for _, values in SLOTS:
        out.append((start, start + len(values) + 1))
        start += len(values) + 1
    return out


FONT_FOLDERS = ["/usr/share/fonts/truetype", "/usr/share/fonts/opentype"]
FONTS_LEFT_OUT = ["Math", "Emoji", "Symbol"]
HELD_OUT_SCANS = 397
"""The last scans of the data set (other writers than the first ones) are never trained on."""


def scans(held_out: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's scans [n, 8, 8] in 0...1 (ink is 1), and their digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images / 16.0, dtype=torch.float32)
    digits = torch.tensor(data.target)
    cut = len(images) - HELD_OUT_SCANS
    return (images[cut:], digits[cut:]) if held_out else (images[:cut], digits[:cut])


def font_files() -> list[str]:
    files = sorted(f for d in FONT_FOLDERS for f in glob.glob(d + "/**/*.[to]tf", recursive=True))
    return [f for f in files if not any(x in f for x in FONTS_LEFT_OUT)]


def printed(texts: list[str], fonts: list[str], height: int, width: int) -> torch.Tensor:
    """Ink masks [fonts, texts, height, width] in uint8, each text filling its frame's width or
    height but for a small margin."""
    from PIL import Image, ImageDraw, ImageFont

    out = np.zeros((len(fonts), len(texts), height, width), np.uint8)
    for i, path in enumerate(fonts):
        font = ImageFont.truetype(path, 2 * height)
        for j, text in enumerate(texts):
            left, top, right, bottom = font.getbbox(text)
            w, h = right - left, bottom - top
            image = Image.new("L", (w, h))
            ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=font)
            scale = min(0.92 * width / w, 0.86 * height / h)
            size = max(1, round(w * scale)), max(1, round(h * scale))
            image = image.resize(size, Image.Resampling.BOX if scale < 0.4 else 2)
            y, x = (height - size[1]) // 2, (width - size[0]) // 2
            out[i, j, y : y + size[1], x : x + size[0]] = np.asarray(image)
    return torch.from_numpy(out)


def radius_tables(n: int = 512) -> torch.Tensor:
    """Each shape as a radius over the angle (-pi...pi; 0 points right, pi/2 down)."""
    angle = (torch.arange(n) + 0.5) / n * 2 * math.pi - math.pi
    unit = torch.stack([angle.cos(), angle.sin()], -1)

    def polygon(points: list[tuple[float, float]]) -> torch.Tensor:
        radius = torch.zeros(n)
        p = torch.tensor(points, dtype=torch.float32)
        for a, b in zip(p, p.roll(-1, 0)):
            # ray r*u meets a + s (b - a)
            d = b - a
            det = unit[:, 0] * -d[1] + unit[:, 1] * d[0]
            r = (a[0] * -d[1] + a[1] * d[0]) / det
            s = (unit[:, 0] * a[1] - unit[:, 1] * a[0]) / det
            hit = (r > 0) & (s >= -1e-4) & (s <= 1 + 1e-4)
            radius = torch.where(hit, torch.maximum(radius, r), radius)
        return radius

    def around(radii: list[float], start: float) -> list[tuple[float, float]]:
        k = len(radii)
        return [
            (r * math.cos(start + 2 * math.pi * i / k), r * math.sin(start + 2 * math.pi * i / k))
            for i, r in enumerate(radii)
        ]

    t = torch.linspace(0, 2 * math.pi, 97)[:-1]
    heart = torch.stack(
        [
            16 * t.sin() ** 3,
            -(13 * t.cos() - 5 * (2 * t).cos() - 2 * (3 * t).cos() - (4 * t).cos()) - 1,
        ],
        -1,
    ) / 17.0
    w = 0.34
    cross = [(w, w), (1, w), (1, -w), (w, -w), (w, -1), (-w, -1), (-w, -w), (-1, -w), (-1, w),
             (-w, w), (-w, 1), (w, 1)]  # fmt: skip
    return torch.stack([
        torch.ones(n),
        polygon(around([1.25] * 4, math.pi / 4)),
        polygon(around([1.2] * 3, -math.pi / 2)),
        polygon(around([1.15, 0.47] * 5, -math.pi / 2)),
        polygon([tuple(x) for x in heart.tolist()]),
        polygon(cross),
    ])  # fmt: skip


@dataclass
class Batch:
    """Pictures [n, 3, s, s] in 0...1 and their labels."""

    pixels: torch.Tensor
    slots: torch.Tensor
    """[n, slots]: the value of each slot, or the number of its values for "not in this picture"."""
    cover: torch.Tensor
    """[n, s, s] int: 0 ground, 1 + k: part of an object of class k (shapes, then digits)."""
    centres: torch.Tensor
    """[n, s, s] in cells of the asked grid: 1 where an object has its middle."""

    @staticmethod
    def cat(parts: list[Batch]) -> Batch:
        return Batch(*(torch.cat([getattr(p, f) for p in parts]) for f in Batch.__annotations__))


class Scenes:
    """A generator of pictures of one size."""

    def __init__(self, size: int, seed: int, held_out: bool = False, grid: int = 12,
                 printed_share: float = 0.35):  # fmt: skip
        self.size, self.grid, self.printed_share = size, grid, printed_share
        self.random = torch.Generator().manual_seed(seed)
        self.radius = radius_tables()
        self.anchors = [torch.tensor(v, dtype=torch.float32) / 255 for v in COLOURS.values()]
        images, self.scan_digits = scans(held_out)
        self.scans = self.enlarge(images)
        files = font_files()
        # Every sixth font is kept for the held-out pictures.
        self.fonts = [f for i, f in enumerate(files) if (i % 6 == 5) == held_out]
        self.printed_digits = printed([str(d) for d in range(10)], self.fonts, 64, 64)
        self.printed_words: torch.Tensor | None = None
        c = (torch.arange(size) + 0.5) / size * 2 - 1
        self.y, self.x = torch.meshgrid(c, c, indexing="ij")

    @staticmethod
    def enlarge(images: torch.Tensor) -> torch.Tensor:
        """8x8 scans as 64x64 sprites, in four ways of enlarging: [4, n, 64, 64]."""
        x = images[:, None]
        soft = F.interpolate(x, size=64, mode="bicubic").clamp(0, 1)
        ways = [
            F.interpolate(x, size=64, mode="nearest"),
            F.interpolate(x, size=64, mode="bilinear"),
            soft,
            ((soft - 0.35) / 0.3).clamp(0, 1),
        ]
        return (torch.cat(ways, 1).transpose(0, 1) * 255).to(torch.uint8)

    # Random numbers --------------------------------------------------------------------------

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        return torch.rand(*shape, generator=self.random) * (high - low) + low

    def integers(self, n: int, *shape: int) -> torch.Tensor:
        return torch.randint(n, shape, generator=self.random)

    def chance(self, n: int, p: float) -> torch.Tensor:
        return self.uniform(n) < p

    def colour(self, kind: torch.Tensor, jitter: float = 0.04) -> torch.Tensor:
        """RGB [n, 3] of colours [n]."""
        out = torch.empty(len(kind), 3)
        pick = self.uniform(len(kind))
        for i, k in enumerate(kind.tolist()):
            anchors = self.anchors[k]
            out[i] = anchors[int(pick[i] * len(anchors))]
        return (out + self.uniform(len(kind), 3, low=-jitter, high=jitter)).clamp(0, 1)

    def ground_and_ink(self, n: int, plain: float):
        """Colours of ground and ink, different and told apart easily; `plain`: the share of black
        on white and white on black."""
        black, white, gray = (list(COLOURS).index(c) for c in ("black", "white", "gray"))
        ink = self.integers(len(COLOURS), n)
        any_ground = self.integers(len(COLOURS), n)
        r = self.uniform(n)
        ground = torch.where(r < 0.5, white, torch.where(r < 0.7, black, any_ground))
        p = self.chance(n, plain)
        dark = self.chance(n, 0.55)
        ink = torch.where(p, torch.where(dark, white, black), ink)
        ground = torch.where(p, torch.where(dark, black, white), ground)
        a, b = self.colour(ground), self.colour(ink)
        for _ in range(8):
            bad = (ground == ink) | ((a - b).abs().amax(1) < 0.3)
            if not bad.any():
                break
            rows = bad.nonzero().flatten()
            ground[rows] = torch.where(self.chance(len(rows), 0.5), white, black)
            ink[rows] = self.integers(len(COLOURS), len(rows))
            a[rows], b[rows] = self.colour(ground[rows]), self.colour(ink[rows])
        else:
            ink[bad] = torch.where(ground[bad] == white, black, white)
            b[bad] = self.colour(ink[bad])
        del gray
        return ground, a, ink, b

    # Pictures --------------------------------------------------------------------------------

    def compose(self, mask: torch.Tensor, ground: torch.Tensor, ink: torch.Tensor) -> torch.Tensor:
        """Ink over ground through the mask [n, s, s], then shading, blur, noise."""
        n = len(mask)
        picture = ground[:, :, None, None] + mask[:, None] * (ink - ground)[:, :, None, None]
        slope = self.uniform(n, 3, low=-0.06, high=0.06) * self.chance(n, 0.3)[:, None]
        shade = slope[:, 0, None, None] * self.x + slope[:, 1, None, None] * self.y
        picture = picture + shade[:, None]
        noisy = self.chance(n, 0.3).nonzero().flatten()
        if len(noisy):
            level = self.uniform(len(noisy), 1, 1, 1, low=0.0, high=0.06)
            noise = torch.randn(len(noisy), *picture.shape[1:], generator=self.random)
            picture[noisy] += noise * level
        soft = self.chance(n, 0.2).nonzero().flatten()
        if len(soft):
            picture[soft] = F.avg_pool2d(picture[soft], 3, 1, 1, count_include_pad=False)
        return picture.clamp(0, 1)

    def place(self, sprites: torch.Tensor, scale_x, scale_y, dx, dy, angle, shear):
        """Sprites [n, h, w] seen through affine maps (half sizes relative to the frame)."""
        n, s = len(sprites), self.size
        c, t = angle.cos(), angle.sin()
        x, y = self.x[None] - dx[:, None, None], self.y[None] - dy[:, None, None]
        u = c[:, None, None] * x + t[:, None, None] * y
        v = -t[:, None, None] * x + c[:, None, None] * y
        u = (u + shear[:, None, None] * v) / scale_x[:, None, None]
        v = v / scale_y[:, None, None]
        grid = torch.stack([u, v], -1)
        return F.grid_sample(sprites[:, None], grid, align_corners=False).view(n, s, s)

    def labels(self, n: int, **values) -> torch.Tensor:
        out = torch.empty(n, len(SLOTS), dtype=torch.long)
        for i, (slot, names) in enumerate(SLOTS):
            out[:, i] = values.get(slot, len(names))
        return out

    def centre_cells(self, n: int, rows: torch.Tensor, dx: torch.Tensor, dy: torch.Tensor):
        g = self.grid
        out = torch.zeros(n, g, g)
        x = ((dx + 1) / 2 * g).long().clamp(0, g - 1)
        y = ((dy + 1) / 2 * g).long().clamp(0, g - 1)
        out[rows, y, x] = 1
        return out

    def digits(self, n: int, low: float = 0.35, loose: float = 1.0) -> Batch:
        """One digit; `low`: the smallest height relative to the picture."""
        digit = self.integers(10, n)
        is_print = self.chance(n, self.printed_share)
        sprites = torch.empty(n, 64, 64, dtype=torch.uint8)
        way = self.integers(4, n)
        pick = self.integers(len(self.scan_digits), n)
        sprites[:] = self.scans[way, pick]
        digit = torch.where(is_print, digit, self.scan_digits[pick])
        rows = is_print.nonzero().flatten()
        font = self.integers(len(self.fonts), len(rows))
        sprites[rows] = self.printed_digits[font, digit[rows]]
        sprites = sprites.float() / 255
        # Thinner and thicker strokes.
        sprites = sprites ** torch.exp(self.uniform(n, 1, 1, low=-0.7, high=0.7))
        # A scan fills its frame; many pictures are the frame itself.
        whole = self.chance(n, 0.4)
        size = torch.where(whole, self.uniform(n, low=0.92, high=1.05), self.uniform(n, low=low))
        wide = torch.where(self.chance(n, 0.25), 0.5, 0.22)
        aspect = torch.exp(self.uniform(n, low=-1) * wide) ** (~whole).float()
        half_x, half_y = size * aspect**0.5, size / aspect**0.5
        room_x, room_y = (1 - half_x).clamp(min=0.04), (1 - half_y).clamp(min=0.04)
        dx = self.uniform(n, low=-1) * room_x * loose
        dy = self.uniform(n, low=-1) * room_y * loose
        turn = ~(whole & self.chance(n, 0.5))
        angle = self.uniform(n, low=-0.26, high=0.26) * turn
        shear = self.uniform(n, low=-0.25, high=0.25) * turn
        mask = self.place(sprites, half_x, half_y, dx, dy, angle, shear)
        ground, a, ink, b = self.ground_and_ink(n, 0.6)
        slots = self.labels(n, kind=KINDS.index("digit"), colour=ink, digit=digit,
                            ground=ground)  # fmt: skip
        cover = (mask > 0.3).long() * (1 + len(SHAPES) + digit)[:, None, None]
        centres = self.centre_cells(n, torch.arange(n), dx, dy)
        return Batch(self.compose(mask, a, b), slots, cover, centres)

    def shapes(self, n: int) -> Batch:
        """One to six equal shapes of one colour, none touching another."""
        k, s = len(COUNTS), self.size
        shape = torch.multinomial(SHAPE_SHARES, n, True, generator=self.random)
        count = self.integers(k, n) + 1
        # A grid of cells with room for all; each shape stays in its cell. Some stand in one line.
        gx, gy = torch.empty(n, dtype=torch.long), torch.empty(n, dtype=torch.long)
        line = self.chance(n, 0.2).tolist()
        for i, c in enumerate(count.tolist()):
            fits = [(x, y) for x in range(1, 5) for y in range(1, 5)
                    if c <= x * y <= max(3 * c, 4)]  # fmt: skip
            fits = [(c, 1), (c, 1), (1, c)] if line[i] else fits
            gx[i], gy[i] = fits[int(self.integers(len(fits), 1))]
        cells = torch.rand(n, 36, generator=self.random)
        cells[torch.arange(36)[None] >= (gx * gy)[:, None]] = 2
        chosen = cells.argsort(1)[:, :k]
        present = torch.arange(k)[None] < count[:, None]
        cx = (chosen % gx[:, None] + 0.5) / gx[:, None] * 2 - 1
        cy = (chosen // gx[:, None] + 0.5) / gy[:, None] * 2 - 1
        cell = torch.minimum(1 / gx, 1 / gy)  # half a cell
        # Pictures of other ratios are squeezed to squares, and what they show with them.
        aspect = torch.exp(self.uniform(n, low=-0.6, high=0.6) * self.chance(n, 0.4))
        stretch = torch.maximum(aspect, 1 / aspect) ** 0.5
        base = cell * self.uniform(n, low=0.5, high=0.8)
        base = torch.where(count == 1, self.uniform(n, low=0.17, high=0.8), base)
        base = (base / stretch).clamp(min=0.13, max=0.8)
        even = self.chance(n, 0.4)[:, None]
        size = base[:, None] * torch.where(even, 1.0, self.uniform(n, k, low=0.75, high=1.05))
        room_x = (1 / gx[:, None] - 1.25 * size / aspect[:, None] ** 0.5).clamp(min=0)
        room_y = (1 / gy[:, None] - 1.25 * size * aspect[:, None] ** 0.5).clamp(min=0)
        off_x, off_y = self.uniform(n, k, low=-1), self.uniform(n, k, low=-1)
        in_rows = self.chance(n, 0.3)[:, None]  # moved all together
        cx = cx + torch.where(in_rows, off_x[:, :1], off_x) * room_x
        cy = cy + torch.where(in_rows, off_y[:, :1], off_y) * room_y
        spin = self.uniform(n, k, low=-math.pi, high=math.pi)
        small = self.uniform(n, k, low=-0.3, high=0.3)
        # Some triangles and stars point anywhere, the others lean a little or not at all.
        free = ((shape == 2) | (shape == 3))[:, None]
        free = free & self.chance(n, 0.3)[:, None]
        angle = torch.where(self.chance(n, 0.6)[:, None], torch.zeros(n, k),
                            torch.where(free, spin, small))  # fmt: skip
        inner = torch.where(self.chance(n, 0.06), self.uniform(n, low=0.6, high=0.8), 0.0)
        mask = torch.zeros(n, s, s)
        for j in range(k):
            rows = present[:, j].nonzero().flatten()
            if not len(rows):
                continue
            x = (self.x[None] - cx[rows, j, None, None]) * aspect[rows, None, None] ** 0.5
            y = (self.y[None] - cy[rows, j, None, None]) / aspect[rows, None, None] ** 0.5
            rho = torch.sqrt(x * x + y * y)
            theta = torch.atan2(y, x) - angle[rows, j, None, None]
            index = ((theta / (2 * math.pi) + 0.5) % 1 * 512).long().clamp(0, 511)
            radius = self.radius[shape[rows, None, None], index] * size[rows, j, None, None]
            one = ((radius - rho) * (s / 2) + 0.5).clamp(0, 1)
            hole = ((radius * inner[rows, None, None] - rho) * (s / 2) + 0.5).clamp(0, 1)
            mask[rows] = torch.maximum(mask[rows], one - hole * (inner[rows, None, None] > 0))
        ground, a, ink, b = self.ground_and_ink(n, 0.3)
        slots = self.labels(n, kind=KINDS.index("shape"), count=count - 1, colour=ink,
                            shape=shape, ground=ground)  # fmt: skip
        cover = (mask > 0.3).long() * (1 + shape)[:, None, None]
        rows = present.nonzero()[:, 0]
        centres = self.centre_cells(n, rows, cx[present], cy[present])
        return Batch(self.compose(mask, a, b), slots, cover, centres)

    def numbers(self, n: int) -> Batch:
        """Two or three digits in a row, of one hand or font."""
        length = 2 + self.integers(2, n)
        digit = self.integers(10, n, 3)
        digit[:, 0] = digit[:, 0].clamp(min=1)
        font = self.integers(len(self.fonts), n)
        scan = self.chance(n, 0.4)
        half_y = self.uniform(n, low=0.25, high=0.6)
        half_y = torch.minimum(half_y, 0.92 / length / 0.62)
        pitch = half_y * self.uniform(n, low=1.15, high=1.5)
        total = pitch * length / 2
        x0 = self.uniform(n, low=-1) * (0.97 - total).clamp(min=0)
        y0 = self.uniform(n, low=-1) * (0.97 - half_y).clamp(min=0)
        shear = self.uniform(n, low=-0.15, high=0.15)
        angle = self.uniform(n, low=-0.08, high=0.08)
        mask = torch.zeros(n, self.size, self.size)
        cover = torch.zeros(n, self.size, self.size, dtype=torch.long)
        centres = torch.zeros(n, self.grid, self.grid)
        order = torch.randperm(len(self.scan_digits), generator=self.random)
        by_digit = [order[self.scan_digits[order] == d] for d in range(10)]
        for j in range(3):
            rows = (length > j).nonzero().flatten()
            d = digit[rows, j]
            sprites = self.printed_digits[font[rows], d].clone()
            for i in scan[rows].nonzero().flatten().tolist():
                pool = by_digit[int(d[i])]
                sprites[i] = self.scans[2 + i % 2, pool[(i * 31 + j * 7) % len(pool)]]
            dx = x0[rows] + pitch[rows] * (j - (length[rows] - 1) / 2)
            part = self.place(sprites.float() / 255, half_y[rows], half_y[rows], dx, y0[rows],
                              angle[rows] * 0, shear[rows])  # fmt: skip
            mask[rows] = torch.maximum(mask[rows], part)
            cover[rows] = torch.where(part > 0.3, (1 + len(SHAPES) + d)[:, None, None], cover[rows])
            centres[rows] = torch.maximum(
                centres[rows], self.centre_cells(len(rows), torch.arange(len(rows)), dx, y0[rows])
            )
        ground, a, ink, b = self.ground_and_ink(n, 0.5)
        third = torch.where(length == 3, digit[:, 2], len(DIGITS))
        slots = self.labels(n, kind=KINDS.index("number"), count=length - 1, colour=ink,
                            digit=digit[:, 0], second=digit[:, 1], third=third,
                            ground=ground)  # fmt: skip
        return Batch(self.compose(mask, a, b), slots, cover, centres)

    def words(self, n: int) -> Batch:
        """One word of the list, in one of three ways of writing it."""
        if self.printed_words is None:
            texts = [f(w) for f in (str.lower, str.upper, str.capitalize) for w in WORDS]
            self.printed_words = printed(texts, self.fonts, 40, 96)
        word, way = self.integers(len(WORDS), n), self.integers(3, n)
        font = self.integers(len(self.fonts), n)
        sprites = self.printed_words[font, way * len(WORDS) + word].float() / 255
        half_x = self.uniform(n, low=0.5, high=1.0)
        half_y = half_x * (40 / 96) * torch.exp(self.uniform(n, low=-0.1, high=0.45))
        dx = self.uniform(n, low=-1) * (1 - half_x)
        dy = self.uniform(n, low=-1) * (1 - half_y)
        zero = torch.zeros(n)
        angle = self.uniform(n, low=-0.1, high=0.1) * self.chance(n, 0.5)
        mask = self.place(sprites, half_x, half_y, dx, dy, angle, zero)
        ground, a, ink, b = self.ground_and_ink(n, 0.5)
        slots = self.labels(n, kind=KINDS.index("word"), count=0, colour=ink, word=word,
                            ground=ground)  # fmt: skip
        cover = (mask > 0.3).long() * (1 + len(SHAPES) + len(DIGITS))
        centres = self.centre_cells(n, torch.arange(n), dx, dy)
        return Batch(self.compose(mask, a, b), slots, cover, centres)


MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711])


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """0...1 to the tower's input."""
    return (pixels - MEAN[:, None, None]) / DEVIATION[:, None, None]
