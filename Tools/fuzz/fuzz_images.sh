#!/usr/bin/env bash
# Fuzzes decoding and preparation of images, guided by coverage, with the address sanitizer.
#
#   Tools/fuzz/fuzz_images.sh [SECONDS] [FOLDER]
#
# FOLDER (default .build/fuzz-images) keeps the program, the corpus and what crashed; seeds are made
# by Tools/reference/image_files.py with $PYTHON, which needs Pillow. A crash ends the run with the
# name of its input: fix it, and add the input to Tests/Fixtures/images/crashes.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
seconds=${1:-60}
folder=$(mkdir -p "${2:-$root/.build/fuzz-images}" && cd "${2:-$root/.build/fuzz-images}" && pwd)
python=${PYTHON:-python3}
flags=(-g -O1 -fno-omit-frame-pointer -fsanitize=address,fuzzer-no-link)

cd "$folder"
mkdir -p objects sources corpus seeds crashes
for file in "$root"/Sources/CImageCodecs/*.c; do
  clang "${flags[@]}" -D_GNU_SOURCE -I"$root/Sources/CImageCodecs/include" -c "$file" \
    -o "objects/$(basename "$file" .c).o"
done

# One module of everything, so that the fuzzer sees the coverage of all of it.
rm -f sources/*
for file in "$root"/Sources/{JSONScanning,ModelConfiguration,ImageProcessing}/*.swift; do
  sed -E '/^(package )?import (JSONScanning|ModelConfiguration)$/d' "$file" \
    >"sources/$(basename "$(dirname "$file")")-$(basename "$file")"
done
cp "$root/Tools/fuzz/ImageFuzzer.swift" sources/
cat >module.modulemap <<MAP
module CImageCodecs { header "$root/Sources/CImageCodecs/include/cimagecodecs.h" export * }
MAP
swiftc -O -g -parse-as-library -sanitize=fuzzer,address -swift-version 6 -package-name fuzz \
  -enable-experimental-feature Lifetimes -module-name ImageFuzzer \
  -Xcc -fmodule-map-file="$folder/module.modulemap" sources/*.swift objects/*.o \
  -ljpeg -lpng16 -lwebp -lwebpdemux -lgif -o fuzz-images

"$python" - "$root" <<'PYTHON'
import sys
from pathlib import Path

sys.path.insert(0, f"{sys.argv[1]}/Tools/reference")
import image_files

for index, (_, data) in enumerate(image_files.cases(600, 7)):
    Path(f"seeds/{index}").write_bytes(bytes([index % 4]) + data)
PYTHON

# Leaks are looked for at the end only: the libraries' own pools make each look costly.
./fuzz-images -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
  -max_len=65536 -artifact_prefix=crashes/ -print_final_stats=1 corpus seeds
