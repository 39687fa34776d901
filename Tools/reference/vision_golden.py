"""What the reference computes for the images of a tiny checkpoint: features, and a prompt's logits.

`golden/vision/expected.safetensors` of a checkpoint with a vision tower holds

    pixels.images     F32 [2, 3, S, S]   whole images as the tower takes them
    pixels.crops      F32 [2, 3, s, s]   crops of the first image, s = 9 S / 13 (where it is whole)
    features.images   F32 [2, n, D]      what stands in the place of their image tokens
    features.crops    F32 [2, m, D]
    ids               I32 [T]            a prompt with both images, placeholders expanded
    logits            F32 [40, V]        after each of its last 40 tokens (all where T < 40)
    png.ids           I32 [t]            a prompt with one `<im_patch>`, not expanded
    png.logits        F32 [40, V]        the same for it, expanded, with `image.png`

`image.png` beside it has the tower's own size, so that neither crops nor resizing come in; its pixels,
normalised, are the second of `pixels.images`.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from safetensors_io import Stored, write_file
from step3_layout import TOKEN_ID, VisionShape, name_hash
from step3_reference import Step3Reference
from vision_reference import VisionReference

MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
DEVIATION = np.array([0.26862954, 0.26130258, 0.27577711])


def normalised(image: np.ndarray) -> np.ndarray:
    """8-bit [h, w, 3] -> [3, h, w] as the tower takes it, every step rounded to float32."""
    scaled = image.astype(np.float32) / np.float32(255)
    result = (scaled - MEAN.astype(np.float32)) / DEVIATION.astype(np.float32)
    return np.ascontiguousarray(result.transpose(2, 0, 1))


def png(image: np.ndarray) -> bytes:
    """An 8-bit RGB file, every row stored as it is."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    height, width, _ = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def framed(count: int, start: str, end: str) -> list[int]:
    """The tokens of one view."""
    return [TOKEN_ID[start], *[TOKEN_ID["<im_patch>"]] * count, TOKEN_ID[end]]


def crop_side(v: VisionShape) -> int | None:
    """The side of a crop, which is to the image's as 504 to 728."""
    return v.image_size * 9 // 13 if v.image_size % 13 == 0 else None


def write_vision_golden(folder: Path, name: str, v: VisionShape) -> str:
    """Writes the files; returns a line about them."""
    generator = np.random.Generator(np.random.PCG64(name_hash(name + "#images")))
    model, text = VisionReference(folder), Step3Reference(folder)
    side, crop = v.image_size, crop_side(v)
    # Smooth enough that shifted or transposed patches show, rough enough that all differ.
    image = generator.integers(0, 256, (side, side, 3)).astype(np.uint8)
    image[: side // 2, : side // 3] = (255, 128, 0)
    first = generator.standard_normal((3, side, side)).astype(np.float32)
    images = np.stack([first, normalised(image)])
    features = model.features(images)
    stored = [("pixels.images", images), ("features.images", features)]
    begin, rows = [TOKEN_ID["<｜begin▁of▁sentence｜>"]], []
    ids = [*begin, 72, 105]
    if crop is not None:
        crops = generator.standard_normal((2, 3, crop, crop)).astype(np.float32)
        crop_features = model.features(crops)
        stored += [("pixels.crops", crops), ("features.crops", crop_features)]
        frame = framed(crop_features.shape[1], "<patch_start>", "<patch_end>")
        ids += [*frame, TOKEN_ID["<patch_newline>"], *frame]
        rows += list(crop_features)
    frame = framed(features.shape[1], "<im_start>", "<im_end>")
    ids += [*frame, 10, *frame, 33, 63]
    rows += list(features)
    token = TOKEN_ID["<im_patch>"]
    logits = text.logits(ids, features=np.concatenate(rows), image_token=token)
    short = [*begin, 87, 104, 111, token, 63]
    expanded = [*short[:4], *frame, *short[5:]]
    short_logits = text.logits(expanded, features=features[1], image_token=token)
    stored += [("logits", logits[-40:]), ("png.logits", short_logits[-40:])]
    result = [Stored(n, "F32", values.astype(np.float32)) for n, values in stored]
    for key, tokens in (("ids", ids), ("png.ids", short)):
        result.append(Stored(key, "I32", np.asarray(tokens, np.int32)))
    golden = folder / "golden" / "vision"
    golden.mkdir(exist_ok=True)
    write_file(golden / "expected.safetensors", result)
    (golden / "image.png").write_bytes(png(image))
    return f"features spread {features.std():.2f}, prompt of {len(ids)} tokens"
