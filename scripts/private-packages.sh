# shellcheck shell=bash
# Sourced by install-criu.sh and install-newer-tools.sh: packages of a newer Debian (or Ubuntu) suite, unpacked with
# every library they need into a directory of this checkout.
#
# The system's own packages, lists and libc are left alone: apt runs on a state of its own, nothing is installed, and
# the programs find their own loader and libraries through their ELF headers. Root is not needed; apt-get, dpkg and
# patchelf are. The caller sets $label, which begins every message, and $otherwise, what to do on other systems.

say() { echo "${label:?}: $*" >&2; }
die() { say "$1"; [ -z "${2:-}" ] || say "What to do: $2"; exit 1; }

[ -r /etc/os-release ] || die "this system has no /etc/os-release" "${otherwise:?}"
# shellcheck disable=SC1091
. /etc/os-release
# shellcheck disable=SC2034 # default_suites is the callers'
case " ${ID:-} ${ID_LIKE:-} " in
  *" ubuntu "*) archive=ubuntu component="main universe" default_suites=(questing) keyring=/usr/share/keyrings/ubuntu-archive-keyring.gpg ;;
  *" debian "*) archive=debian component=main default_suites=(trixie) keyring=/usr/share/keyrings/debian-archive-keyring.gpg ;;
  *) die "this is ${PRETTY_NAME:-an unknown system}; only Debian's and Ubuntu's packages are known here" "$otherwise" ;;
esac

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
find_mirror() {
  mirror=$(mirror_of_this_machine || true)
  [ -n "$mirror" ] || die "apt knows no mirror whose path ends in /$archive" "add one to /etc/apt/sources.list, then: apt-get update"
}

# patch_programs NOW DIR "PROGRAM...": makes the programs below NOW find their loader and libraries below DIR.
patch_programs() {
  local new=$1 dir=$2 programs=$3
  local multiarch program loader real
  multiarch=$(dpkg --print-architecture | xargs -I{} dpkg-architecture -a{} -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch 2>/dev/null || echo "$(uname -m)-linux-gnu")
  # The paths written into the ELF headers are those of the final place, not of the temporary one.
  local libs="$dir/usr/lib/$multiarch:$dir/lib/$multiarch:$dir/usr/lib:$dir/lib"
  for program in $programs; do
    [ -x "$new/$program" ] || die "the packages hold no $program"
    loader=$(patchelf --print-interpreter "$new/$program")
    # Patched before: what the package had ends the path.
    loader=$(sed -E 's#^.*/(lib(64)?/(.*-linux-gnu/)?ld-[^/]*)$#/\1#' <<<"$loader")
    real=$dir/usr$loader
    [ -e "$new/usr$loader" ] || real=$dir$loader
    [ -e "$new/usr$loader" ] || [ -e "$new$loader" ] || real=$dir/usr/lib/$multiarch/$(basename "$loader")
    patchelf --set-interpreter "$real" "$new/$program"
    patchelf --force-rpath --set-rpath "$libs" "$new/$program"
  done
  echo "$dir" >"$new/.complete"
}

# private_packages SUITE DIR "PROGRAM..." PACKAGE...: the packages of a suite and the closure of their dependencies, in
# DIR, whose programs (paths below DIR) then run. What is there already is not fetched again.
private_packages() {
  local suite=$1 dir programs=$3 work new apt log prefix
  # The ELF headers name this place, whatever link led to it.
  dir=$(realpath -m "$2")
  shift 3
  if [ -e "$dir/.complete" ]; then
    # The ELF headers name the place where it was made: one that was moved since is patched again.
    [ "$(cat "$dir/.complete")" = "$dir" ] || { say "making $dir work where it is now"; patch_programs "$dir" "$dir" "$programs"; }
    return 0
  fi
  find_mirror
  prefix=$(dirname "$dir")
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
  say "fetching $* of $suite"
  apt-get "${apt[@]}" update >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update for $suite failed" "check the network and that the mirror carries $suite"; }
  local want="$*" first=$1
  # By version, not as NAME/experimental: that would pull every dependency from experimental too. Only
  # the packages built from the same source have to come along.
  if [ "$suite" = experimental ]; then
    local version package
    version=$(apt-cache "${apt[@]}" madison "$first" | awk -F'|' '/experimental/ && !n++ { gsub(/ /, "", $2); print $2 }')
    want=$first=$version
    for package in $(apt-cache "${apt[@]}" show "$first=$version" | sed -n 's/^Depends: //p' | tr ',|' '\n\n' | awk '{ print $1 }'); do
      # Not grep -q: it would end apt-cache in the middle of its answer, and pipefail make a no of a yes.
      if apt-cache "${apt[@]}" madison "$package" | grep -F " $version " >/dev/null; then want+=" $package=$version"; fi
    done
  fi
  # shellcheck disable=SC2086 # $want is a list
  # An empty status file makes the closure complete: libc and the loader come along.
  apt-get "${apt[@]}" -y --no-install-recommends --download-only install $want >>"$log" 2>&1 ||
    { cat "$log" >&2; die "$* of $suite could not be fetched" "see the lines above; another suite can be named: $0 sid"; }
  local deb
  for deb in "$work"/archives/*.deb; do dpkg -x "$deb" "$new"; done
  patch_programs "$new" "$dir" "$programs"
  # Documentation, locales and everything apt's closure brought that the programs do not need.
  rm -rf "$new"/usr/share/{doc,man,locale,info} "$new"/var "$new"/etc
  chmod 755 "$new"
  rm -rf "$dir"
  mv "$new" "$dir"
  rm -rf "$work"
  trap - EXIT
}
