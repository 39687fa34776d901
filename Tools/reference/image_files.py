"""Image files of every format and kind, small and random: what Pillow writes, and PNG and BMP files
put together here for what it only reads.
"""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
from PIL import Image


def picture(draw: random.Random, mode: str, size: tuple[int, int] | None = None) -> Image.Image:
    """A smooth picture with some noise, in one of Pillow's modes."""
    w, h = size or (draw.randint(1, 70), draw.randint(1, 70))
    rows = np.random.default_rng(draw.getrandbits(32))
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    x, y = np.meshgrid(np.arange(w), np.arange(h))
    planes = [(x * (c + 2) + y * (5 - c)) % 256 for c in range(channels)]
    pixels = (np.stack(planes, -1) + rows.integers(-30, 30, (h, w, channels))) % 256
    pixels = pixels.astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def orientation(draw: random.Random) -> bytes:
    """An EXIF block with one of the eight orientations."""
    exif = Image.Exif()
    exif[274] = draw.randint(1, 8)
    exif[271] = "maker"
    return exif.tobytes()


# JPEG ----------------------------------------------------------------------------------------


def jpeg(draw: random.Random) -> tuple[str, bytes]:
    """Baseline and progressive, all samplings, grey and CMYK, with orientation."""
    mode = draw.choice(["RGB", "RGB", "RGB", "L", "CMYK"])
    options: dict[str, object] = {"quality": draw.randint(20, 98)}
    options["progressive"] = draw.random() < 0.4
    options["optimize"] = draw.random() < 0.3
    if mode == "RGB":
        options["subsampling"] = draw.choice(["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
    if draw.random() < 0.3:
        options["exif"] = orientation(draw)
    if draw.random() < 0.2:
        options["restart_marker_blocks"] = draw.randint(1, 9)
    return f"JPEG {mode} {options}", saved(picture(draw, mode), "JPEG", **options)


# PNG -----------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2)]
"""Adam7: first column and row, and their steps."""


def packed_rows(samples: np.ndarray, depth: int) -> bytes:
    """Rows of samples [h, w, channels] with a filter byte each."""
    out = b""
    for row in samples:
        flat = row.reshape(-1)
        if depth == 16:
            data = flat.astype(">u2").tobytes()
        elif depth == 8:
            data = flat.astype(np.uint8).tobytes()
        else:
            bits = ((flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8)
            data = np.packbits(bits.reshape(-1)).tobytes()
        out += b"\0" + data
    return out


def raw_png(draw: random.Random) -> tuple[str, bytes]:
    """Any colour type, depth and interlacing, with or without tRNS."""
    colour, depth = draw.choice([
        (0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8),
        (4, 8), (4, 16), (6, 8), (6, 16),
    ])  # fmt: skip
    w, h = draw.randint(1, 40), draw.randint(1, 40)
    rows = np.random.default_rng(draw.getrandbits(32))
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    limit = 1 << depth
    # Few values, so that a transparent colour is met.
    values = rows.integers(0, limit, 5)
    samples = values[rows.integers(0, 5, (h, w, channels))]
    colours = draw.randint(1, limit) if colour == 3 else 0
    if colour == 3:
        samples = samples % colours
    interlaced = draw.random() < 0.4
    data = packed_rows(samples, depth)
    if interlaced:
        parts = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES]
        data = b"".join(packed_rows(part, depth) for part in parts if part.size)
    out = b"\x89PNG\r\n\x1a\n"
    out += chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, interlaced))
    if colour == 3:
        out += chunk(b"PLTE", rows.integers(0, 256, 3 * colours).astype(np.uint8).tobytes())
    clear = draw.random() < 0.4 and colour in (0, 2, 3)
    if clear and colour == 3:
        count = draw.randint(1, colours)
        out += chunk(b"tRNS", rows.integers(0, 256, count).astype(np.uint8).tobytes())
    elif clear:
        out += chunk(b"tRNS", samples[0, 0].astype(">u2").tobytes())
    if draw.random() < 0.2:
        out += chunk(b"eXIf", orientation(draw)[6:])
    half = len(data := zlib.compress(data)) // 2
    out += chunk(b"IDAT", data[:half]) + chunk(b"IDAT", data[half:]) + chunk(b"IEND", b"")
    kind = f"PNG colour {colour} depth {depth} interlaced {interlaced} tRNS {clear} {w}x{h}"
    return kind, out


def png(draw: random.Random) -> tuple[str, bytes]:
    """As Pillow writes it, or put together here."""
    if draw.random() < 0.8:
        return raw_png(draw)
    mode = draw.choice(["L", "LA", "RGB", "RGBA"])
    return f"PNG {mode}", saved(picture(draw, mode), "PNG")


# Others --------------------------------------------------------------------------------------


def webp(draw: random.Random) -> tuple[str, bytes]:
    """Lossy and lossless, with alpha, animated, with orientation."""
    mode = draw.choice(["RGB", "RGBA"])
    options: dict[str, object] = {"lossless": draw.random() < 0.5, "quality": draw.randint(10, 95)}
    if draw.random() < 0.2:
        options["exif"] = orientation(draw)
    size = (draw.randint(1, 60), draw.randint(1, 60))
    if draw.random() < 0.2:
        options["save_all"] = True
        options["append_images"] = [picture(draw, mode, size)]
    return f"WebP {mode} {sorted(options)}", saved(picture(draw, mode, size), "WEBP", **options)


def gif(draw: random.Random) -> tuple[str, bytes]:
    """Palettes of all sizes, transparency, interlacing, several frames, frames off the screen."""
    mode = draw.choice(["L", "RGB"])
    size = (draw.randint(1, 60), draw.randint(1, 60))
    image = picture(draw, mode, size)
    if mode == "RGB":
        image = image.quantize(draw.choice([2, 3, 16, 200, 256]))
    options: dict[str, object] = {"interlace": draw.random() < 0.5}
    if draw.random() < 0.4:
        options["transparency"] = draw.randint(0, 5)
    if draw.random() < 0.3:
        options["save_all"] = True
        options["append_images"] = [picture(draw, "L", size)]
    data = bytearray(saved(image, "GIF", **options))
    place = draw.random()
    at = data.find(b",", 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0))
    if place < 0.2 and data[at + 1 : at + 5] == b"\0\0\0\0":
        # A frame that lies elsewhere: the canvas grows, the rest is background.
        data[at + 1] = draw.randint(0, 9)
        data[at + 3] = draw.randint(0, 9)
    return f"GIF {mode} {sorted(options)} {place < 0.2}", bytes(data)


def bmp(draw: random.Random) -> tuple[str, bytes]:
    """All depths, both directions, bit fields."""
    if draw.random() < 0.3:
        mode = draw.choice(["L", "RGB"])
        return f"BMP {mode}", saved(picture(draw, mode), "BMP")
    bits = draw.choice([1, 4, 8, 16, 24, 32])
    w, h = draw.randint(1, 40), draw.randint(1, 40)
    rows = np.random.default_rng(draw.getrandbits(32))
    stride = (w * bits + 31) // 32 * 4
    colours = draw.choice([0, 1 << bits]) if bits <= 8 else 0
    count = (1 << bits) if bits <= 8 else 0
    palette = rows.integers(0, 256, 4 * count).astype(np.uint8).tobytes()
    flipped = draw.random() < 0.3
    masks, compression, header = b"", 0, 40
    if bits in (16, 32) and draw.random() < 0.6:
        compression = 3
        choice = {
            16: [(0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)],
            32: [(0xFF0000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0),
                 (0xFF0000, 0xFF00, 0xFF, 0xFF000000), (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
                 (0xFF000000, 0xFF0000, 0xFF00, 0xFF)],
        }[bits]  # fmt: skip
        chosen = draw.choice(choice)
        header = 56 if len(chosen) == 4 else draw.choice([40, 52])
        masks = b"".join(struct.pack("<I", mask) for mask in chosen)
    offset = 14 + (header if header >= 52 else header + len(masks)) + len(palette)
    info = struct.pack("<IiiHHIIiiII", header, w, -h if flipped else h, 1, bits, compression, 0, 0,
                       0, colours, 0)  # fmt: skip
    data = rows.integers(0, 256, stride * h).astype(np.uint8).tobytes()
    file = struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset)
    kind = f"BMP {bits} bits, compression {compression}, header {header}, flipped {flipped}"
    return kind, file + info + masks + palette + data


def cases(count: int, seed: int) -> list[tuple[str, bytes]]:
    """Named files; a function of the seed."""
    draw = random.Random(seed)
    kinds = [jpeg, png, png, webp, gif, bmp]
    return [kinds[index % len(kinds)](draw) for index in range(count)]
