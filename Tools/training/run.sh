#!/usr/bin/env bash
# Goes on training the tower for some minutes and writes the result for `step3 convert --vision`.
#
#   Tools/training/run.sh MINUTES [RUN_FOLDER]
#
# RUN_FOLDER (default .build/training) keeps the state: the next call goes on from it; without one
# it starts from the weights in Tools/checkpoints/smollm2-vision. Stopping it loses at most three
# minutes. Whether the result is better is for Tools/training/evaluate.py to say.
#
#   PYTHON   an interpreter with the packages of Tools/training/pyproject.toml (default: python3)
#   THREADS  cores to use (default 1)
#   GGUF, TOKENIZER   the text model's source and its tokenizer's folder (default: as `make model`
#                     leaves them)
set -euo pipefail

[ $# -ge 1 ] || { sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
minutes=$1
run=${2:-$root/.build/training}
python=${PYTHON:-python3}
gguf=${GGUF:-$root/.cache/downloads/SmolLM2-135M-Instruct.Q4_1.gguf}
tokenizer=${TOKENIZER:-$root/.cache/models/smollm2-135m-step3}
written=$root/Tools/checkpoints/smollm2-vision
export OMP_NUM_THREADS=${THREADS:-1}

cd "$root/Tools/training"
[ -f "$run/start.pt" ] || "$python" assemble.py --back "$run/start.pt" "$written"
nice -n 10 "$python" train_tower.py "$run/tower" --start "$run/start.pt" --finish "$minutes" \
  --threads "$OMP_NUM_THREADS" --mix "${MIX:-40,60,0,0}"
"$python" assemble.py "$run/tower/tower.pt" "$written" --gguf "$gguf" --tokenizer "$tokenizer"
