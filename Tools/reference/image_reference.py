"""What becomes of an image before the model sees it: the published processor's steps with the
Python Imaging Library and torchvision.

Written from the description of the steps, not from the engine's code. Everything that decides a
number is left to the two libraries: decoding, both resizes in 8 bits, ToTensor, Normalize, and
the antialiased resize in float32.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

MEAN = [0.48145466, 0.4578275, 0.40821073]
DEVIATION = [0.26862954, 0.26130258, 0.27577711]

Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Rules:
    """Sizes and switches of a preprocessor."""

    image_size: int = 728
    crop_size: int = 504
    image_tokens: int = 169
    crop_tokens: int = 81
    maximum: int = 3024
    window: int = 504
    whole: int = 728
    whole_inclusive: bool = True
    enable_patch: bool = True


PUBLISHED = Rules()


@dataclass
class Plan:
    """Sizes after each step, crops and tokens."""

    size: tuple[int, int]
    padded: tuple[int, int]
    capped: tuple[int, int]
    window: int = 0
    canvas: tuple[int, int] | None = None
    columns: int = 0
    rows: int = 0
    boxes: list[tuple[int, int, int, int]] = field(default_factory=list)
    newlines: list[bool] = field(default_factory=list)
    placeholder: list[str] = field(default_factory=list)


def decode(data: bytes, over_white: bool = True) -> Image.Image:
    """An upright RGB image; what is transparent lies over white or loses its transparency."""
    image = Image.open(io.BytesIO(data))
    image = ImageOps.exif_transpose(image)
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if image.mode != "RGB" and transparent and over_white:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(image, mask=image.getchannel("A"))
        return white
    return image.convert("RGB")


def canvas_side(side: int, window: int) -> int:
    """A side rounded to whole windows, up from a fifth."""
    ratio = side / window
    if ratio < 1:
        return side
    return window * (int(ratio) + (1 if ratio - side // window > 0.2 else 0))


def plan(size: tuple[int, int], rules: Rules = PUBLISHED) -> Plan:
    """The plan for an upright image of (width, height)."""
    w, h = size
    if min(w, h) < 32 and (w / h > 4 or w / h < 1 / 4):
        w = h = max(w, h)
    padded = (w, h)
    if max(w, h) > rules.maximum:
        factor = rules.maximum / max(w, h)
        w, h = int(w * factor), int(h * factor)
    result = Plan(size, padded, (w, h))
    long, short = max(w, h), min(w, h)
    small = long <= rules.whole if rules.whole_inclusive else long < rules.whole
    if small:
        window = short if long / short > 1.5 else 0
    else:
        window = min(short, rules.window) if long / short > 4 else rules.window
    if window and rules.enable_patch:
        result.window = window
        result.canvas = canvas_side(w, window), canvas_side(h, window)
        result.columns = max(1, result.canvas[0] // window)
        result.rows = max(1, result.canvas[1] // window)
        for row in range(result.rows):
            for column in range(result.columns):
                result.boxes.append((column * window, row * window, window, window))
                ends = column == result.columns - 1 and row < result.rows - 1
                result.newlines.append(ends)
                result.placeholder += ["<patch_start>", *["<im_patch>"] * rules.crop_tokens]
                result.placeholder += ["<patch_end>", *["<patch_newline>"] * ends]
    result.placeholder += ["<im_start>", *["<im_patch>"] * rules.image_tokens, "<im_end>"]
    return result


def steps(
    image: Image.Image, rules: Rules = PUBLISHED
) -> tuple[Image.Image, Image.Image | None, list[Image.Image]]:
    """The shrunk image, the canvas and the crops, in 8 bits."""
    what = plan(image.size, rules)
    if what.padded != what.size:
        square = Image.new("RGB", what.padded, 0)
        square.paste(image, (0, 0))
        image = square
    capped = image.resize(what.capped, Image.Resampling.BILINEAR)
    if what.canvas is None:
        return capped, None, []
    canvas = capped.resize(what.canvas, Image.Resampling.BILINEAR)
    return capped, canvas, [canvas.crop((x, y, x + w, y + h)) for x, y, w, h in what.boxes]


def tensor(image: Image.Image, side: int) -> torch.Tensor:
    """Normalised pixels [3, side, side]."""
    pixels = transforms.normalize(transforms.to_tensor(image), MEAN, DEVIATION)
    return transforms.resize(
        pixels, [side, side], interpolation=InterpolationMode.BILINEAR, antialias=True
    )


def pixels(
    image: Image.Image, rules: Rules = PUBLISHED
) -> tuple[torch.Tensor, torch.Tensor]:
    """`pixel_values` [1, 3, S, S] and `patch_pixel_values` [n, 3, s, s]."""
    whole, _, crops = steps(image, rules)
    shape = (0, 3, rules.crop_size, rules.crop_size)
    cut = [tensor(crop, rules.crop_size) for crop in crops]
    return tensor(whole, rules.image_size)[None], torch.stack(cut) if cut else torch.empty(shape)
