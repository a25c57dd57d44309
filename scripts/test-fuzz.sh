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
cp build/Release/stillframe-guardian build/Release/stillframe-hold-session build/Release/stillframe-init build/Release/stillframe-launch "$copy/build/Release"

CFLAGS='-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined' \
  node scripts/build-native.mjs --addon "$copy/build/Release/stillframe.node"

export STILLFRAME_FUZZ_ROOT=$copy
STILLFRAME_FUZZ_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)"
export STILLFRAME_FUZZ_PRELOAD
npx vitest run --config vitest.faults.config.ts test/faults/fuzz
