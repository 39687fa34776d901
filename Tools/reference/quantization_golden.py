"""Golden files of rounding and packing: Tests/Fixtures/quantization/golden.safetensors.

Rounding: for random BF16 weights, the squared error of the best rounding that each format allows,
found by trying every factor that BF16 can express in a wide range (and every zero point).
Packing: integers packed by the compressed-tensors package, and what they stand for.

    python quantization_golden.py OUTPUT_FOLDER
"""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from safetensors.torch import save_file


def bf16_factors(low: float, high: float) -> np.ndarray:
    """Every BF16 number from low to high."""
    first = np.float32(low).view(np.uint32) >> 16
    last = (np.float32(high).view(np.uint32) >> 16) + 1
    return (np.arange(first, last + 1, dtype=np.uint32) << 16).view(np.float32).astype(np.float64)


def best_integer_error(group: np.ndarray, bits: int, zero_points: bool) -> float:
    """The least squared error over all BF16 factors, and zero points where there are any."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    largest = np.abs(group).max()
    span = largest / high if not zero_points else (group.max() - group.min()) / (high - low)
    factors = bf16_factors(span * 0.3, span * 1.6)
    zeros = np.arange(low, high + 1) if zero_points else np.array([0])
    best = np.inf
    for zero in zeros:
        codes = np.clip(np.rint(group[None, :] / factors[:, None]) + zero, low, high)
        error = ((codes - zero) * factors[:, None] - group[None, :]) ** 2
        best = min(best, error.sum(axis=1).min())
    return best


def best_e4m3_error(block: np.ndarray) -> float:
    """The least squared error over a fine grid of factors."""
    values = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    values = np.unique(values[np.isfinite(values)]).astype(np.float64)
    best = np.inf
    for factor in np.abs(block).max() / 448 * 2 ** np.linspace(-0.5, 2, 101):
        scaled = block / factor
        at = np.clip(np.searchsorted(values, scaled), 1, len(values) - 1)
        below, above = values[at - 1], values[at]
        nearest = np.where(scaled - below <= above - scaled, below, above)
        best = min(best, ((nearest * factor - block) ** 2).sum())
    return best


def main() -> None:
    folder = Path(sys.argv[1])
    generator = torch.Generator().manual_seed(20)
    weights = torch.randn(16, 128, generator=generator).mul(0.02).bfloat16()
    block = torch.randn(128, 128, generator=generator).mul(0.02).bfloat16()
    exact = weights.double().numpy()
    tensors = {"weights": weights, "block": block}
    for bits, size, zero_points in [
        (4, 32, False), (4, 32, True), (4, 64, True), (4, 128, False), (8, 128, False),
        (8, 32, False),
    ]:
        error = sum(
            best_integer_error(group, bits, zero_points) for group in exact.reshape(-1, size))
        name = f"error.int{bits}.{size}{'.zeros' if zero_points else ''}"
        tensors[name] = torch.tensor([error], dtype=torch.float64)
    tensors["error.e4m3"] = torch.tensor(
        [best_e4m3_error(block.double().numpy().ravel())], dtype=torch.float64)

    # Packing: a stack of two matrices [12, 64] with groups of 32 and zero points.
    codes = torch.randint(-8, 8, (2, 12, 64), generator=generator, dtype=torch.int8)
    zeros = torch.randint(-8, 8, (2, 12, 2), generator=generator, dtype=torch.int8)
    scales = torch.rand(2, 12, 2, generator=generator).add(0.5).bfloat16()
    spread = lambda values: values.repeat_interleave(32, dim=2).float()
    tensors["packed"] = pack_to_int32(codes, 4)
    tensors["packed_zeros"] = pack_to_int32(zeros, 4, packed_dim=0).contiguous()
    tensors["scales"] = scales
    tensors["unpacked"] = (codes.float() - spread(zeros)) * spread(scales)
    versions = {
        name: importlib.metadata.version(name) for name in ("numpy", "torch", "compressed-tensors")
    }
    save_file(tensors, str(folder / "golden.safetensors"), metadata=versions)


if __name__ == "__main__":
    main()
