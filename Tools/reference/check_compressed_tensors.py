"""Whether another tool reads what `step3 quantize` writes.

Every integer matrix of a quantised folder is decompressed by the compressed-tensors package, by the
scheme that the folder's own config.json gives its module, and compared with the source's weights:
the error must be that of rounding to so many bits. Block-FP8 is dequantised by the published rule
(PyTorch's own E4M3, one factor for every block of 128 x 128).

    python check_compressed_tensors.py SOURCE QUANTISED

Needs compressed-tensors, torch and safetensors; not part of `make test`.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors import safe_open

LIMITS = {"pack-quantized": 0.15, "int-quantized": 0.03, "fp8": 0.04}
"""The largest relative error of a matrix that rounding explains."""


class Folder:
    """The tensors of all shards of a folder."""

    def __init__(self, path: str) -> None:
        paths = sorted(Path(path).glob("*.safetensors"))
        self.files = [safe_open(str(file), "pt") for file in paths]
        self.by_name = {name: file for file in self.files for name in file.keys()}

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.by_name[name].get_tensor(name)


def scheme_of(config: QuantizationConfig, module: str):
    """The scheme whose targets name the module; the one for all linear layers comes last."""
    schemes = config.config_groups.values()
    named = [scheme for scheme in schemes if module in scheme.targets]
    return named[0] if named else next(s for s in schemes if "Linear" in s.targets)


def integers(folder: Folder, config: QuantizationConfig, module: str) -> tuple[str, torch.Tensor]:
    """A module's weights as compressed-tensors sees them; stacked experts one by one."""
    scheme = scheme_of(config, module)
    compressor = BaseCompressor.get_value_from_registry(scheme.format)
    names = ["weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_shape"]
    state = {name: folder[f"{module}.{name}"] for name in names if f"{module}.{name}" in folder}
    shape = state.get("weight_shape")
    count = state["weight_scale"].shape[0] if state["weight_scale"].dim() == 3 else 0
    parts = []
    for expert in range(max(1, count)):
        part = {
            name: tensor[expert] if count and name != "weight_shape" else tensor
            for name, tensor in state.items()
        }
        if shape is not None:
            part["weight_shape"] = shape[-2:]
        parts.append(compressor.decompress(part, scheme)["weight"].float())
    return scheme.format, torch.stack(parts) if count else parts[0]


def fp8(folder: Folder, module: str) -> torch.Tensor:
    """Codes times the factor of their block."""
    codes = folder[f"{module}.weight"].float()
    factors = folder[f"{module}.weight_scale_inv"]
    factors = factors.repeat_interleave(128, -2).repeat_interleave(128, -1)
    return codes * factors[..., : codes.shape[-2], : codes.shape[-1]]


def main() -> int:
    source, folder = Folder(sys.argv[1]), Folder(sys.argv[2])
    raw = json.loads((Path(sys.argv[2]) / "config.json").read_text())["quantization_config"]
    config = None if raw["quant_method"] == "fp8" else QuantizationConfig.model_validate(raw)
    suffixes = ("weight_scale_inv",) if config is None else ("weight_scale",)
    modules = sorted(n.rsplit(".", 1)[0] for n in folder.by_name if n.endswith(suffixes))
    worst: dict[str, tuple[int, float]] = {}
    failed = 0
    for module in modules:
        if config is None:
            kind, values = "fp8", fp8(folder, module)
        else:
            kind, values = integers(folder, config, module)
        wanted = source[f"{module}.weight"].float()
        error = ((values - wanted).norm() / wanted.norm()).item()
        if values.shape != wanted.shape or not error < LIMITS[kind]:
            print(f"{module}: {kind}, {tuple(values.shape)}, relative error {error:.3f}")
            failed += 1
        count, largest = worst.get(kind, (0, 0.0))
        worst[kind] = (count + 1, max(largest, error))
    for kind, (count, largest) in worst.items():
        print(f"{kind}: {count} tensors, largest relative error {largest:.4f}")
    ignored = raw.get("ignore", raw.get("modules_to_not_convert", []))
    for module in ignored:
        if f"{module}.weight_scale" in folder or f"{module}.weight_scale_inv" in folder:
            print(f"{module}: listed as unchanged, but has factors")
            failed += 1
    print(f"compressed-tensors {importlib.metadata.version('compressed-tensors')}, "
          f"torch {torch.__version__}: {len(modules)} tensors, {failed} wrong")
    return 1 if failed or not modules else 0


if __name__ == "__main__":
    sys.exit(main())
