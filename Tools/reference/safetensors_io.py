"""Reading and writing safetensors, with the number formats that NumPy does not have.

Values come out widened: BF16, F16 and E4M3 as float32, everything else as stored.
Only NumPy is needed; nothing here is shared with the engine.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STORAGE = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16,
    "F8_E4M3": np.uint8, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
"""The NumPy type whose bytes each safetensors dtype stores."""


# Number formats ------------------------------------------------------------------------------


def bf16_to_f32(codes: np.ndarray) -> np.ndarray:
    """Widens BF16 codes (uint16); exact."""
    return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(values: np.ndarray) -> np.ndarray:
    """Rounds finite float32 values to BF16 codes (uint16), ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + half) >> np.uint32(16)).astype(np.uint16)


def _e4m3_table() -> np.ndarray:
    """The 256 values of e4m3fn: bias 7, no infinities, NaN at S.1111.111."""
    table = np.empty(256, np.float32)
    for code in range(256):
        exponent, mantissa = (code >> 3) & 15, code & 7
        if exponent == 15 and mantissa == 7:
            magnitude = np.nan
        elif exponent == 0:
            magnitude = mantissa * 2.0**-9
        else:
            magnitude = (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        table[code] = -magnitude if code & 128 else magnitude
    return table


E4M3 = _e4m3_table()
_E4M3_MIDPOINTS = ((E4M3[:126].astype(np.float64) + E4M3[1:127]) / 2).astype(np.float32)


def e4m3_to_f32(codes: np.ndarray) -> np.ndarray:
    """Widens E4M3 codes (uint8); exact."""
    return E4M3[codes]


def f32_to_e4m3(values: np.ndarray) -> np.ndarray:
    """Rounds finite float32 values to E4M3 codes, ties to even, saturating at 448."""
    magnitude = np.abs(np.asarray(values, np.float32))
    code = np.searchsorted(_E4M3_MIDPOINTS, magnitude, side="left")
    at_tie = magnitude == _E4M3_MIDPOINTS[np.minimum(code, 125)]
    code = np.where(at_tie & (code % 2 == 1) & (code < 126), code + 1, code)
    return code.astype(np.uint8) | (np.signbit(values).astype(np.uint8) << np.uint8(7))


def widen(raw: np.ndarray, dtype: str) -> np.ndarray:
    """Stored codes of `dtype` as numbers."""
    if dtype == "BF16":
        return bf16_to_f32(raw)
    if dtype == "F8_E4M3":
        return e4m3_to_f32(raw)
    return raw.astype(np.float32) if dtype == "F16" else raw


def narrow(values: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers rounded to the stored codes of `dtype`."""
    if dtype == "BF16":
        return f32_to_bf16(values)
    if dtype == "F8_E4M3":
        return f32_to_e4m3(values)
    return np.ascontiguousarray(values, STORAGE[dtype])


# Files ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: file, dtype, shape and the absolute offset of its first byte."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors of one safetensors file, by name."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    entries = {}
    for name, fact in header.items():
        begin, end = fact["data_offsets"]
        shape = tuple(fact["shape"])
        expected = int(np.prod(shape, dtype=np.int64)) * np.dtype(STORAGE[fact["dtype"]]).itemsize
        if end - begin != expected:
            raise ValueError(f"{path}: {name}: {end - begin} bytes, shape needs {expected}")
        entries[name] = Entry(path, fact["dtype"], shape, 8 + length + begin)
    return entries


class Checkpoint:
    """The tensors of a folder of safetensors files, one file or many; nothing is read ahead."""

    def __init__(self, directory: Path) -> None:
        index = directory / "model.safetensors.index.json"
        if index.exists():
            weight_map = json.loads(index.read_text())["weight_map"]
            files = sorted(set(weight_map.values()))
        else:
            files = sorted(path.name for path in directory.glob("*.safetensors"))
        self.entries: dict[str, Entry] = {}
        for name in files:
            self.entries.update(read_header(directory / name))
        if not self.entries:
            raise FileNotFoundError(f"{directory}: no safetensors files")

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self.entries[name].shape

    def tensor(self, name: str, part: int | None = None) -> np.ndarray:
        """A tensor widened; `part` takes one slice of the leading dimension."""
        entry = self.entries[name]
        raw = np.memmap(
            entry.path, STORAGE[entry.dtype], mode="r", offset=entry.offset, shape=entry.shape
        )
        return widen(np.asarray(raw if part is None else raw[part]), entry.dtype)


@dataclass(frozen=True)
class Stored:
    """One tensor to write: name, dtype and its codes (as `narrow` gives them)."""

    name: str
    dtype: str
    codes: np.ndarray


def header_bytes(facts: Iterable[tuple[str, str, tuple[int, ...]]]) -> tuple[bytes, int]:
    """The length-prefixed header for tensors in file order, and the bytes of data behind it.

    The header is padded with spaces so that the data starts on a multiple of 64 bytes.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dtype, shape in facts:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(STORAGE[dtype]).itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return struct.pack("<Q", len(text)) + text, offset


def write_file(path: Path, tensors: list[Stored]) -> int:
    """Writes one file; returns the bytes of tensor data."""
    header, size = header_bytes((t.name, t.dtype, t.codes.shape) for t in tensors)
    with open(path, "wb") as file:
        file.write(header)
        for tensor in tensors:
            file.write(np.ascontiguousarray(tensor.codes).tobytes())
    return size
