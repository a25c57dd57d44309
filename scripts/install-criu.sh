#!/usr/bin/env bash
# install-criu.sh [SUITE...]
#
# Puts the CRIU of a newer Debian (or Ubuntu) suite into a private prefix of this checkout:
#   .stillframe/criu/SUITE/           the unpacked packages: criu and every library it needs
#   .stillframe/criu/current          -> the first SUITE given (or the default)
# The system itself stays as it is: see private-packages.sh.
#
# Without SUITE: the newest stable suite known to work on this kernel. A suite that is already there is not fetched again.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
prefix=$root/.stillframe/criu
label=install-criu
otherwise="install CRIU 4.0 or newer from your distribution and set STILLFRAME_CRIU to its path"
# shellcheck source=scripts/private-packages.sh
. "$root/scripts/private-packages.sh"

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=("${default_suites[@]}")
# CRIU before 4.2 refuses every tree with a network namespace of its own where the kernel has no UDP-Lite (Linux 7.2).
if [ $# -eq 0 ] && [ "$archive" = debian ] && [ -e /proc/net/udp ] && [ ! -e /proc/net/udplite ]; then suites=(sid); fi

for suite in "${suites[@]}"; do private_packages "$suite" "$prefix/$suite" usr/sbin/criu criu; done
first=${suites[0]}
if [ $# -eq 0 ] || [ ! -e "$prefix/current" ]; then ln -sfn "$first" "$prefix/current"; fi
for suite in "${suites[@]}"; do
  version=$("$prefix/$suite/usr/sbin/criu" --version 2>&1 | sed -n 's/^Version: //p') || die "the criu of $suite does not run: $("$prefix/$suite/usr/sbin/criu" --version 2>&1 | tail -1)"
  echo "$prefix/$suite/usr/sbin/criu $version"
done
