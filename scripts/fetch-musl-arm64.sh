#!/usr/bin/env bash
# fetch-musl-arm64.sh DIR: unpacks Debian's musl and musl-dev of arm64 into DIR, for the cross compiler. The system stays as it is:
# apt runs on a state of its own, with the mirror that this machine uses.
set -euo pipefail
dir=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/partial"
: >"$work/status"
mirror=$(apt-get indextargets --format '$(SITE)' | grep -m 1 '/debian/*$')
# shellcheck disable=SC1091
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
apt=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::Etc::sourcelist=$work/sources.list"
  -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::Lists=$work/lists" -o "Dir::State::status=$work/status"
  -o "Dir::Cache=$work/cache" -o "Dir::Cache::archives=$work/cache" -o APT::Sandbox::User=root -o Debug::NoLocking=1)
apt-get "${apt[@]}" update
apt-get "${apt[@]}" -y --no-install-recommends --download-only install musl-dev
mkdir -p "$dir.new"
for deb in "$work"/cache/musl*.deb; do dpkg -x "$deb" "$dir.new"; done
mv "$dir.new" "$dir"
