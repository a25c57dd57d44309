#!/bin/sh
# Installs what the tests run: container runtimes, image tools, a server, the tools of three file systems, ip and ps, from Debian's or Ubuntu's packages.
# A second run finds everything there and does nothing.
set -eu

packages="runc crun podman skopeo buildah busybox-static containerd redis-server redis-tools sqlite3 tar xz-utils xfsprogs
	btrfs-progs iproute2 e2fsprogs procps"

missing=""
for package in $packages; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || {
	echo "needs apt-get (Debian, Ubuntu); install by hand:$missing" >&2
	exit 1
}
[ "$(id -u)" = 0 ] || {
	echo "needs root to install:$missing" >&2
	exit 1
}
export DEBIAN_FRONTEND=noninteractive
# Services of the packages are not wanted: the tests start what they need.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	trap 'rm -f "$policy"' EXIT
fi
install_missing() { apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
install_missing 2>/dev/null || { apt-get update -qq && install_missing; }
