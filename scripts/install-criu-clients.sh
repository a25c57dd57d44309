#!/usr/bin/env bash
# install-criu-clients.sh [SUITE]
#
# Puts the other clients of CRIU's RPC into a private prefix of this checkout, for the bench to measure ours against:
#   .stillframe/clients/usr/bin/libcriu-version              in C, with libcriu
#   .stillframe/clients/usr/lib/python3/dist-packages/pycriu in Python, with a Python and a protobuf of the same suite
# The system itself stays as it is: see private-packages.sh. What is there already is not fetched again.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
label=install-criu-clients
otherwise="the bench leaves out what is not there"
# shellcheck source=scripts/private-packages.sh
. "$root/scripts/private-packages.sh"

private_packages "${1:-${default_suites[0]}}" "$root/.stillframe/clients" "usr/bin/python3" libcriu2 python3-pycriu python3

# Built with this system's compiler, run with that suite's loader and libraries, as its libcriu needs them.
bin=$root/.stillframe/clients/usr/bin
gcc -std=gnu11 -O2 -Wall -Wextra -o "$bin/libcriu-version" "$root/bench/clients/libcriu-version.c" -ldl
patchelf --set-interpreter "$(patchelf --print-interpreter "$bin/python3")" "$bin/libcriu-version"
patchelf --force-rpath --set-rpath "$(patchelf --print-rpath "$bin/python3")" "$bin/libcriu-version"
