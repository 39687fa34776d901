#!/usr/bin/env bash
# Runs the public clients in Tests/Clients against a server.
#
#   Tools/clients/run.sh [MODEL_DIR]    starts `step3 serve` on a free port and stops it afterwards
#   STEP3_URL=http://… Tools/clients/run.sh     uses a server that runs already
#
# The Python environment lies outside the repository: $STEP3_CLIENTS_VENV, by default in the
# user's cache folder.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=${STEP3_CLIENTS_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/swift-step3/clients}

if [ ! -x "$venv/bin/pytest" ] || [ "$root/Tools/clients/requirements.txt" -nt "$venv/.installed" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet -r "$root/Tools/clients/requirements.txt"
  touch "$venv/.installed"
fi

if [ -z "${STEP3_URL:-}" ]; then
  model=${1:-$root/.cache/models/smollm2-135m-step3}
  port=$("$venv/bin/python" -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
  binary=${STEP3_BINARY:-$root/.build/release/step3}
  "$binary" serve --model "$model" --port "$port" --max-model-len 4096 &
  server=$!
  trap 'kill -TERM "$server" 2>/dev/null; wait "$server" || true' EXIT
  export STEP3_URL=http://127.0.0.1:$port
fi
for _ in $(seq 600); do
  "$venv/bin/python" - "$STEP3_URL" <<'PY' && break
import sys, urllib.request
try:
    urllib.request.urlopen(sys.argv[1] + "/ready", timeout=2)
except Exception:
    sys.exit(1)
PY
  sleep 0.5
done

"$venv/bin/pytest" -q -p no:cacheprovider "$root/Tests/Clients"
# No 5xx and no undocumented answer, whatever the fuzzer sends.
cd "$venv" && "$venv/bin/schemathesis" run "$STEP3_URL/openapi.json" --phases coverage,fuzzing \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
  --max-examples "${STEP3_FUZZ_EXAMPLES:-10}" --request-timeout 60 \
  --exclude-path /metrics
