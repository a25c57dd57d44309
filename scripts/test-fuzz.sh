#!/usr/bin/env bash
# Gives hostile archives to a copy of the library whose addon is under AddressSanitizer and UndefinedBehaviorSanitizer.
# STILLFRAME_TEST_MINUTES: how long, 60 unless it is set. Needs gcc with its sanitizers' libraries.
set -euo pipefail
cd "$(dirname "$0")/.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r dist package.json "$copy"
ln -s "$PWD/node_modules" "$copy/node_modules"
mkdir -p "$copy/build/Release"
cp build/Release/stillframe-guardian build/Release/stillframe-hold-session "$copy/build/Release"

headers=$(dirname "$(dirname "$(readlink -f "$(command -v node)")")")/include/node
sources=$(node -p 'JSON.parse(require("fs").readFileSync("binding.gyp", "utf8").replace(/^\s*#.*$/gm, "")).targets[0].sources.join(" ")')
# shellcheck disable=SC2086 # a list of files
gcc -shared -fPIC -pthread -std=gnu11 -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -DNAPI_VERSION=8 -D_GNU_SOURCE \
  -I"$headers" $sources -o "$copy/build/Release/stillframe.node"

export STILLFRAME_FUZZ_ROOT=$copy
STILLFRAME_FUZZ_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)"
export STILLFRAME_FUZZ_PRELOAD
npx vitest run --config vitest.faults.config.ts test/faults/fuzz
