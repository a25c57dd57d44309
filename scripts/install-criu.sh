#!/usr/bin/env bash
# install-criu.sh [SUITE...]
#
# Puts the CRIU of a newer Debian (or Ubuntu) suite into a private prefix of this checkout, or below $STILLFRAME_CRIU_PREFIX:
#   .stillframe/criu/SUITE/           the unpacked packages: criu and every library it needs
#   .stillframe/criu/current          -> the first SUITE given (or the default)
# The system itself stays as it is: see private-packages.sh.
#
# Without SUITE: the newest stable suite whose CRIU does all on this kernel, else a newer one, as far as that can be had.
# A suite that is already there is not fetched again.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
prefix=${STILLFRAME_CRIU_PREFIX:-$root/.stillframe/criu}
label=install-criu
otherwise="install CRIU 3.19 or newer from your distribution and set STILLFRAME_CRIU to its path"
# shellcheck source=scripts/private-packages.sh
. "$root/scripts/private-packages.sh"

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=("${default_suites[@]}")
# CRIU before 4.2 refuses every tree that has a TCP or UDP socket on Linux 6.16 and newer (it asks for options of unix sockets), and
# every tree with a network namespace of its own where the kernel has no UDP-Lite (7.2). Without a newer one the rest works all the same.
if [ $# -eq 0 ] && [ "$archive" = debian ] && printf '6.16\n%s\n' "$(uname -r)" | sort -V -C; then
  if (private_packages sid "$prefix/sid" usr/sbin/criu criu); then suites=(sid); else say "taking that of ${suites[0]}"; fi
fi

for suite in "${suites[@]}"; do private_packages "$suite" "$prefix/$suite" usr/sbin/criu criu; done
first=${suites[0]}
# In a checkout a suite is named to have it beside the others (the matrix); to `stillframe install-criu`, to use it.
if [ $# -eq 0 ] || [ -n "${STILLFRAME_CRIU_PREFIX:-}" ] || [ ! -e "$prefix/current" ]; then
  ln -sfn "$first" "$prefix/current"
fi
for suite in "${suites[@]}"; do
  version=$("$prefix/$suite/usr/sbin/criu" --version 2>&1 | sed -n 's/^Version: //p') || die "the criu of $suite does not run: $("$prefix/$suite/usr/sbin/criu" --version 2>&1 | tail -1)"
  echo "$prefix/$suite/usr/sbin/criu $version"
done
