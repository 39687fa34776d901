#!/usr/bin/env python3
"""Compares the vision reference with vLLM's own Step3 vision modules, on the same weights.

    python3 check_vision_with_vllm.py MODEL ...

Not part of any test: it needs vLLM's CPU build (README.md says how to install it). The tower and
the two convolutions are vLLM's, in float32; views are those of the folder's golden values.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors_io import Checkpoint
from vision_reference import VisionReference

for name, value in {
    "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577",
}.items():  # fmt: skip
    os.environ.setdefault(name, value)


def vllm_features(folder: Path, views: list[np.ndarray]) -> list[np.ndarray]:
    """The features of each batch of views by vLLM's modules."""
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.model_executor.models.step3_vl import Step3VisionTransformer
    from vllm.transformers_utils.configs.step3_vl import Step3VisionEncoderConfig

    document = json.loads((folder / "config.json").read_text())
    files = VisionReference(folder)
    facts = {k: v for k, v in document["vision_config"].items() if k != "model_type"}

    def tensor(name: str) -> Any:
        return torch.from_numpy(files.weight(name).astype(np.float32))

    with set_current_vllm_config(VllmConfig()):
        init_distributed_environment(1, 0, "env://", 0, "gloo")
        initialize_model_parallel(1, 1)
        tower = Step3VisionTransformer(Step3VisionEncoderConfig(**facts)).eval()
        state = {}
        for name in tower.state_dict():
            full = "vision_model." + name
            if files.prefix + full not in files.files:  # separate tensors
                parts = [full.replace("qkv_proj", f"{part}_proj") for part in "qkv"]
                state[name] = torch.cat([tensor(part) for part in parts])
            else:
                state[name] = tensor(full)
        state["embeddings.class_embedding"] = state["embeddings.class_embedding"].reshape(1, -1)
        tower.load_state_dict(state)
        for module in tower.modules():
            if hasattr(module, "quant_method"):
                module.quant_method.process_weights_after_loading(module)
        result = []
        for pixels in views:
            with torch.no_grad():
                x = tower(torch.from_numpy(pixels.copy()))[:, 4:]
                grid = round(x.shape[1] ** 0.5)
                x = x.permute(0, 2, 1).reshape(len(x), -1, grid, grid)
                convolve = torch.nn.functional.conv2d
                names = "vit_downsampler", "vit_downsampler2"
                weights = [(tensor(n + ".weight"), tensor(n + ".bias")) for n in names]
                x = convolve(x, *weights[0], stride=document["understand_projector_stride"])
                x = convolve(x, *weights[1], stride=2, padding=1)
                x = x.flatten(2).permute(0, 2, 1) @ tensor("vit_large_projector.weight").T
                if document["projector_bias"]:
                    x = x + tensor("vit_large_projector.bias")
            result.append(x.numpy())
    return result


def compare(folder: Path) -> bool:
    """Prints one line for a model; whether it agrees."""
    golden = Checkpoint(folder / "golden" / "vision")
    names = [n for n in ("images", "crops") if "pixels." + n in golden]
    views = [golden.tensor("pixels." + n) for n in names]
    expected = [VisionReference(folder).features(v) for v in views]
    found = vllm_features(folder, views)
    scale = max(float(np.abs(e).max()) for e in expected)
    worst = max(float(np.abs(e - f).max()) for e, f in zip(expected, found)) / scale
    print(f"{folder.name}: {', '.join(names)}: largest difference {worst:.2g} of the largest value")
    return worst < 1e-4


def main() -> int:
    """The command line; every model runs in a process of its own."""
    differing = 0
    for folder in sys.argv[1:]:
        process = os.fork()
        if process == 0:
            agrees = False
            try:
                agrees = compare(Path(folder))
            finally:  # vLLM's threads would keep the process alive
                sys.stderr.flush()
                sys.stdout.flush()
                os._exit(0 if agrees else 1)
        differing += os.waitpid(process, 0)[1] != 0
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
