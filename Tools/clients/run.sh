#!/usr/bin/env bash
# Runs public clients against real servers.
#
#   Tools/clients/run.sh               openai, anthropic, litellm, the chat page, schemathesis as a fuzzer
#   Tools/clients/run.sh agents        langchain, instructor, pydantic-ai, openai-agents, llm
#   STEP3_URL=http://… Tools/clients/run.sh      asks a server that runs already
#
# Models: $STEP3_MODEL, by default the default model, for the clients; the fuzzer gets a tiny one
# with a short context, for it asks for answers without end.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=${STEP3_BINARY:-$root/.build/release/step3}
scope=${1:-daily}
venv=${STEP3_CLIENTS_VENV:-$root/.cache/venvs}/$scope
requirements=$root/Tools/clients/requirements-$scope.txt
case $scope in
  daily) tests=(test_openai.py test_anthropic.py test_litellm.py test_images.py test_page.py) ;;
  agents) tests=(test_agents.py test_llm_command.py) ;;
  *) echo "$0: there is no $scope; the sets are daily and agents" >&2; exit 2 ;;
esac

stamp=$venv/.installed
if ! cmp -s "$stamp" "$requirements"; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$stamp"
fi

servers=()
trap 'for server in "${servers[@]}"; do kill -TERM "$server" 2>/dev/null && wait "$server" || true; done' EXIT

# Starts a server; its address goes to $url. The log is shown only if the server fails.
start() {
  local log
  log=$(mktemp)
  "$binary" serve --port 0 "$@" 2> "$log" &
  servers+=($!)
  for _ in $(seq 600); do
    url=$(sed -n 's/^.* at \(http.*\)\/v1$/\1/p' "$log")
    if grep -q '^step3: ready$' "$log"; then
      rm "$log"
      return
    fi
    kill -0 $! 2>/dev/null || break
    sleep 0.1
  done
  cat "$log" >&2
  exit 1
}

if [ -z "${STEP3_URL:-}" ]; then
  start --model "${STEP3_MODEL:-$root/.cache/models/smollm2-135m-step3}" --max-model-len 4096
  export STEP3_URL=$url
fi
(cd "$root/Tests/Clients" && "$venv/bin/pytest" -q -p no:cacheprovider "${tests[@]}")
[ "$scope" = daily ] || exit 0

# No 5xx and no undocumented answer, whatever the fuzzer sends.
if [ -n "${url:-}" ]; then
  start --model "$root/Tests/Fixtures/tiny/moe-f32" --max-model-len 512
else
  url=$STEP3_URL
fi
cd "$venv" && "$venv/bin/schemathesis" run "$url/openapi.json" --phases coverage,fuzzing \
  --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
  --max-examples "${STEP3_FUZZ_EXAMPLES:-10}" --request-timeout 60 \
  --exclude-path /metrics
