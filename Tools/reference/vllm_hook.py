"""Lets vLLM's CPU build import torchvision; copy it into an environment as sitecustomize.py.

The torchvision that installs beside a CPU torch lacks its native half, and its Python half names
two operators that are then missing. They are defined by name here; nothing calls them.
"""

from __future__ import annotations

import sys
from typing import Any


class TorchvisionOperators:
    """A finder that finds nothing, and acts once when torchvision is first asked for."""

    library: Any = None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Defines the operators before torchvision is imported."""
        if name != "torchvision" or TorchvisionOperators.library is not None:
            return
        import torch

        TorchvisionOperators.library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            try:
                TorchvisionOperators.library.define(operator + signature)
            except RuntimeError:
                pass  # a complete torchvision has them


sys.meta_path.insert(0, TorchvisionOperators())  # type: ignore[arg-type]
