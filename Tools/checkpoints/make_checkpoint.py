#!/usr/bin/env python3
"""Writes random-weight Step3 checkpoints of benchmark sizes.

    python3 make_checkpoint.py list
    python3 make_checkpoint.py make step3-mini-1b DIR [--dtype bf16|f32|fp8] [--vision]

Values are a function of seed and name (step3_layout.py in ../reference) and are written as they
are made: memory stays small whatever the size. In FP8 checkpoints the linears are E4M3 with one
scale per block of 128 x 128; embeddings, head, norms and router stay BF16.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference"))

import step3_layout as layout  # noqa: E402
from safetensors_io import E4M3, bf16_to_f32, f32_to_bf16, f32_to_e4m3, header_bytes  # noqa: E402
from step3_layout import Shape, TensorPlan, VisionShape  # noqa: E402

SEED = 20250725
HEAD_GAIN = 4.0
SHARD_BYTES = 4 << 30
CHUNK = 1 << 21

# hidden, layers, dense layers, ffn, heads, head_dim, query_dim, experts, top_k, expert width,
# shared width, vocabulary
SHAPES = {
    "step3-nano": Shape(256, 4, (0, 3), 640, 8, 64, 128, 8, 3, 160, 160, 1024),
    "step3-mini-60m": Shape(512, 6, (0, 5), 1280, 8, 128, 256, 16, 3, 384, 384, 8192),
    "step3-mini-1b": Shape(1024, 10, (0, 9), 2560, 8, 256, 256, 48, 3, 768, 768, 32768),
    "step3-mini-4b": Shape(2048, 12, (0, 11), 5120, 16, 256, 512, 48, 3, 1280, 1280, 65536),
    # Attention at some thousand tokens of context takes as long as reading the experts.
    "step3-afd-balanced": Shape(1024, 12, (), 2560, 32, 64, 256, 48, 3, 768, 768, 8192),
    # The same for experts that every micro-batch keeps busy with arithmetic.
    "step3-afd-busy": Shape(1024, 12, (), 2560, 32, 64, 256, 8, 3, 768, 768, 8192),
    "step3-slice2": Shape(7168, 2, (0,), 18432, 64, 256, 2048, 48, 3, 5120, 5120, 16384),
    "step3-slice3": Shape(7168, 3, (0,), 18432, 64, 256, 2048, 48, 3, 5120, 5120, 16384),
}
VISION = {
    "step3-nano": VisionShape(128, 256, 2, 4, 728, 14, 128),
    "step3-mini-60m": VisionShape(256, 512, 4, 4, 728, 14, 512),
    "step3-mini-1b": VisionShape(448, 768, 8, 4, 728, 14, 1024),
    "step3-mini-4b": VisionShape(896, 1536, 12, 8, 728, 14, 2048),
}
BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1}


@dataclass(frozen=True)
class Piece:
    """One tensor to store; `plan` is nothing for a scale tensor, whose values are all `scale`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    plan: TensorPlan | None
    scale: float = 0.0

    @property
    def count(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def byte_count(self) -> int:
        """The bytes in the file."""
        return self.count * BYTES[self.dtype]


def fast_e4m3_table() -> np.ndarray:
    """E4M3 magnitude codes by the upper 15 bits of a float32 rounded to BF16.

    BF16 keeps 8 significant bits and E4M3 needs 4, so rounding twice hardly ever matters; what
    counts is that the result is a fixed function of the value.
    """
    magnitudes = bf16_to_f32(np.arange(1 << 15, dtype=np.uint16))
    finite = np.nan_to_num(magnitudes, nan=448.0, posinf=448.0)
    return f32_to_e4m3(np.minimum(finite, E4M3[126]))


E4M3_BY_BF16 = fast_e4m3_table()


def to_e4m3(values: np.ndarray) -> np.ndarray:
    """E4M3 codes of float32 values, by table."""
    bits = f32_to_bf16(values)
    return E4M3_BY_BF16[bits & np.uint16(0x7FFF)] | ((bits >> 8) & 0x80).astype(np.uint8)


def pieces(plans: list[TensorPlan], dtype: str) -> Iterator[Piece]:
    """What is stored for each tensor: itself, and block scales where it is quantised."""
    for plan in plans:
        if dtype == "fp8" and plan.kind in ("linear", "expert"):
            *leading, rows, columns = plan.shape
            blocks = (*leading, -(-rows // 128), -(-columns // 128))
            yield Piece(plan.name, "F8_E4M3", plan.shape, plan)
            # |w| <= half_width exactly, so one scale serves every block.
            yield Piece(plan.name + "_scale_inv", "F32", blocks, None, plan.half_width / 448)
        else:
            yield Piece(plan.name, "F32" if dtype == "f32" else "BF16", plan.shape, plan)


def encoded(piece: Piece, start: int, count: int) -> bytes:
    """The bytes of elements `start ..< start + count`."""
    if piece.plan is None:
        return np.full(count, np.float32(piece.scale), np.float32).tobytes()
    values = layout.values(piece.plan, SEED, start, count)
    if piece.dtype == "F8_E4M3":
        values *= np.float32(448 / piece.plan.half_width)
        return to_e4m3(values).tobytes()
    return (f32_to_bf16(values) if piece.dtype == "BF16" else values).tobytes()


def write_pieces(file: BinaryIO, shard: list[Piece], pool: ThreadPoolExecutor) -> None:
    """Encodes chunks on all cores, a few ahead of the writer, and writes them in order."""
    waiting: list[Future[bytes]] = []
    for piece in shard:
        for start in range(0, piece.count, CHUNK):
            count = min(CHUNK, piece.count - start)
            waiting.append(pool.submit(encoded, piece, start, count))
            if len(waiting) > 8:
                file.write(waiting.pop(0).result())
    for future in waiting:
        file.write(future.result())


def split(everything: list[Piece]) -> list[list[Piece]]:
    """Shards of at most SHARD_BYTES (one tensor at least)."""
    shards: list[list[Piece]] = [[]]
    size = 0
    for piece in everything:
        if shards[-1] and size + piece.byte_count > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(piece)
        size += piece.byte_count
    return shards


def write_json(path: Path, document: Any) -> None:
    """One JSON document."""
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_documents(out: Path, name: str, dtype: str, vision: bool) -> None:
    """config.json, generation_config.json and the tokenizer."""
    config = layout.text_config(SHAPES[name], "float32" if dtype == "f32" else "bfloat16")
    if vision:
        config = layout.multimodal_config(config, VISION[name])
    if dtype == "fp8":
        config["quantization_config"] = layout.FP8_CONFIG
    write_json(out / "config.json", config)
    write_json(out / "tokenizer.json", layout.byte_tokenizer())
    write_json(out / "tokenizer_config.json", layout.tokenizer_config())
    tokens = {key: config[key] for key in ("bos_token_id", "eos_token_id")}
    write_json(out / "generation_config.json", tokens)


def make(name: str, out: Path, dtype: str, vision: bool) -> None:
    """Writes one checkpoint folder."""
    plans = list(layout.text_tensors(SHAPES[name], HEAD_GAIN))
    if vision:
        plans += layout.vision_tensors(VISION[name], SHAPES[name].hidden)
    everything = list(pieces(plans, dtype))
    total = sum(piece.byte_count for piece in everything)
    out.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out).free
    if total > free:
        sys.exit(f"{out}: {total / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free")
    shards = split(everything)
    weight_map = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, shard in enumerate(shards, 1):
            file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            if len(shards) == 1:
                file_name = "model.safetensors"
            header, size = header_bytes((p.name, p.dtype, p.shape) for p in shard)
            with open(out / file_name, "wb") as file:
                file.write(header)
                write_pieces(file, shard, pool)
            weight_map.update({piece.name: file_name for piece in shard})
            print(f"{file_name}: {size / 1e9:.2f} GB", file=sys.stderr)
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(out / "model.safetensors.index.json", index)
    write_documents(out, name, dtype, vision)


def list_shapes() -> None:
    """Parameters, sizes and bytes read per decoded token of every shape."""
    print(f"{'shape':16}{'parameters M':>14}{'active M':>10}{'bf16 GB':>9}{'fp8 GB':>8}", end="")
    print(f"{'bf16 MB/token':>15}{'fp8 MB/token':>14}")
    for name, shape in SHAPES.items():
        linears = kept = read_linears = 0.0
        for plan in layout.text_tensors(shape, HEAD_GAIN):
            count = int(np.prod(plan.shape, dtype=np.int64))
            if plan.kind in ("linear", "expert"):
                share = shape.top_k / shape.experts if plan.kind == "expert" else 1
                linears += count
                read_linears += count * share
            else:
                kept += count
        embedding = shape.vocabulary * shape.hidden
        read_kept = kept - embedding  # one row of the embedding is read
        print(
            f"{name:16}{(linears + kept) / 1e6:14.1f}{(read_linears + read_kept) / 1e6:10.1f}"
            f"{(linears + kept) * 2 / 1e9:9.2f}{(linears + 2 * kept) / 1e9:8.2f}"
            f"{(read_linears + read_kept) * 2 / 1e6:15.1f}"
            f"{(read_linears + 2 * read_kept) / 1e6:14.1f}"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Writes random-weight Step3 checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="sizes of every shape")
    making = commands.add_parser("make", help="write one checkpoint folder")
    making.add_argument("name", choices=SHAPES)
    making.add_argument("out", type=Path)
    making.add_argument("--dtype", default="bf16", choices=["bf16", "f32", "fp8"])
    making.add_argument("--vision", action="store_true", help="with a vision tower")
    arguments = parser.parse_args()
    if arguments.command == "list":
        list_shapes()
    elif arguments.vision and arguments.name not in VISION:
        parser.error(f"{arguments.name} has no vision tower")
    else:
        make(arguments.name, arguments.out, arguments.dtype, arguments.vision)


if __name__ == "__main__":
    main()
