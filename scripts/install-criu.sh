#!/usr/bin/env bash
# install-criu.sh [SUITE...]
#
# Puts the CRIU of a newer Debian (or Ubuntu) suite into a private prefix of this checkout:
#   .stillframe/criu/SUITE/           the unpacked packages: criu and every library it needs
#   .stillframe/criu/current          -> the first SUITE given (or the default)
# The system's own packages, lists and libc are left alone: apt runs on a state of its own, nothing is
# installed, and the private criu finds its own loader and libraries through its ELF header.
#
# Without SUITE: the newest stable suite known to work. A suite that is already there is not fetched again.
# Needs: root is not needed; apt-get, dpkg and patchelf are.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
prefix=$root/.stillframe/criu

say() { echo "install-criu: $*" >&2; }
die() { say "$1"; [ -z "${2:-}" ] || say "What to do: $2"; exit 1; }

[ -r /etc/os-release ] || die "this system has no /etc/os-release" "install CRIU 4.0 or newer and set STILLFRAME_CRIU to its path"
# shellcheck disable=SC1091
. /etc/os-release
case " ${ID:-} ${ID_LIKE:-} " in
  *" ubuntu "*) archive=ubuntu component="main universe" default_suites=(questing) keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg ;;
  *" debian "*) archive=debian component=main default_suites=(trixie) keyring=/usr/share/keyrings/debian-archive-keyring.gpg ;;
  *) die "this is ${PRETTY_NAME:-an unknown system}; only Debian's and Ubuntu's packages are known here" \
         "install CRIU 4.0 or newer from your distribution and set STILLFRAME_CRIU to its path" ;;
esac

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=("${default_suites[@]}")

missing=()
for tool in apt-get apt-cache dpkg patchelf; do command -v "$tool" >/dev/null || missing+=("$tool"); done
[ ${#missing[@]} -eq 0 ] || die "missing: ${missing[*]}" "apt-get install ${missing[*]/apt-cache/apt}"
[ -r "$keyring" ] || die "the archive's keyring $keyring is missing" "apt-get install $archive-archive-keyring || apt-get install $archive-keyring"

# The mirror is the one this machine itself uses. A machine whose lists were removed (container images)
# still has it in its sources, which apt prints as URIs.
mirror_of_this_machine() {
  { apt-get indextargets --format '$(SITE)' 2>/dev/null
    apt-get update --print-uris 2>/dev/null | sed -n "s#^'\([^']*/$archive\)/dists/.*#\1#p"
  } | grep -E "/$archive/?\$" | head -n 1
}
mirror=$(mirror_of_this_machine || true)
[ -n "$mirror" ] || die "apt knows no mirror whose path ends in /$archive" "add one to /etc/apt/sources.list, then: apt-get update"

# One suite: a state of apt's own, the closure of criu's dependencies, unpacked into one prefix.
install_suite() {
  local suite=$1 dir=$prefix/$1 work new apt criu loader log
  if [ -e "$dir/.complete" ]; then return 0; fi
  mkdir -p "$prefix"
  work=$(mktemp -d "$prefix/.apt-$suite.XXXXXX")
  new=$(mktemp -d "$prefix/.new-$suite.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work' '$new'" EXIT
  log=$work/apt.log
  mkdir -p "$work/lists/partial" "$work/archives/partial" "$work/cache"
  : >"$work/status"
  echo "deb [signed-by=$keyring] $mirror $suite $component" >"$work/sources.list"
  # experimental holds only what differs from unstable
  if [ "$suite" = experimental ]; then echo "deb [signed-by=$keyring] $mirror sid $component" >>"$work/sources.list"; fi
  apt=(-q -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o "Dir::State=$work" -o "Dir::State::Lists=$work/lists" -o "Dir::State::status=$work/status"
    -o "Dir::Cache=$work/cache" -o "Dir::Cache::archives=$work/archives"
    -o "APT::Default-Release=" -o APT::Sandbox::User= -o Debug::NoLocking=1 -o APT::Get::List-Cleanup=0)
  say "fetching criu of $suite"
  apt-get "${apt[@]}" update >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update for $suite failed" "check the network and that the mirror carries $suite"; }
  local want=criu
  # By version, not as criu/experimental: that would pull every dependency from experimental too. Only
  # the packages built from the same source have to come along.
  if [ "$suite" = experimental ]; then
    local version package
    version=$(apt-cache "${apt[@]}" madison criu | awk -F'|' '/experimental/ { gsub(/ /, "", $2); print $2; exit }')
    want=criu=$version
    for package in $(apt-cache "${apt[@]}" show "criu=$version" | sed -n 's/^Depends: //p' | tr ',|' '\n\n' | awk '{ print $1 }'); do
      if apt-cache "${apt[@]}" madison "$package" | grep -qF " $version "; then want+=" $package=$version"; fi
    done
  fi
  # shellcheck disable=SC2086 # $want is a list
  # An empty status file makes the closure complete: libc and the loader come along.
  apt-get "${apt[@]}" -y --no-install-recommends --download-only install $want >>"$log" 2>&1 ||
    { cat "$log" >&2; die "criu of $suite could not be fetched" "see the lines above; another suite can be named: scripts/install-criu.sh sid"; }
  local deb
  for deb in "$work"/archives/*.deb; do dpkg -x "$deb" "$new"; done
  criu=$new/usr/sbin/criu
  [ -x "$criu" ] || die "the package of $suite holds no usr/sbin/criu"
  loader=$(patchelf --print-interpreter "$criu")
  local multiarch
  multiarch=$(dpkg --print-architecture | xargs -I{} dpkg-architecture -a{} -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch 2>/dev/null || echo "$(uname -m)-linux-gnu")
  # The paths written into the ELF header are those of the final place, not of the temporary one.
  local libs="$dir/usr/lib/$multiarch:$dir/lib/$multiarch:$dir/usr/lib:$dir/lib"
  local real=$dir/usr$loader
  [ -e "$new/usr$loader" ] || real=$dir$loader
  [ -e "$new/usr$loader" ] || [ -e "$new$loader" ] || real=$dir/usr/lib/$multiarch/$(basename "$loader")
  patchelf --set-interpreter "$real" "$criu"
  patchelf --force-rpath --set-rpath "$libs" "$criu"
  # Documentation, locales and everything apt's closure brought that criu does not run.
  rm -rf "$new"/usr/share/{doc,man,locale,info} "$new"/var "$new"/etc
  : >"$new/.complete"
  chmod 755 "$new"
  rm -rf "$dir"
  mv "$new" "$dir"
  rm -rf "$work"
  trap - EXIT
}

for suite in "${suites[@]}"; do install_suite "$suite"; done
first=${suites[0]}
if [ $# -eq 0 ] || [ ! -e "$prefix/current" ]; then ln -sfn "$first" "$prefix/current"; fi
for suite in "${suites[@]}"; do
  version=$("$prefix/$suite/usr/sbin/criu" --version 2>&1 | sed -n 's/^Version: //p') || die "the criu of $suite does not run: $("$prefix/$suite/usr/sbin/criu" --version 2>&1 | tail -1)"
  echo "$prefix/$suite/usr/sbin/criu $version"
done
