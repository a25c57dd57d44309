#!/usr/bin/env bash
# install-newer-tools.sh [SUITE]
#
# Puts two programs of a newer Debian (or Ubuntu) suite into a private prefix of this checkout, for the container tests:
#   .stillframe/tools/usr/bin/crun             built with CRIU, which Debian 12's is not
#   .stillframe/tools/usr/bin/checkpointctl    Debian 12 has none
# The system itself stays as it is: see private-packages.sh. What is there already is not fetched again.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
label=install-newer-tools
otherwise="put a crun with CRIU and checkpointctl on PATH"
# shellcheck source=scripts/private-packages.sh
. "$root/scripts/private-packages.sh"

# crun loads libcriu when it is asked for a checkpoint, and no package depends on it.
private_packages "${1:-${default_suites[0]}}" "$root/.stillframe/tools" "usr/bin/crun usr/bin/checkpointctl" crun libcriu2 checkpointctl
