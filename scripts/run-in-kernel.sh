#!/bin/bash
# run-in-kernel.sh SUITE 'COMMAND'
#
# Boots the newest linux-image-amd64 of a Debian SUITE (bookworm, trixie, sid,
# bookworm-backports, ...) in qemu, with this machine's root file system as the
# guest's root (9p, read-only, under an overlay whose upper layer is a tmpfs:
# the guest may write anywhere, nothing reaches the host) and nothing but
# cgroup2 on /sys/fs/cgroup; runs COMMAND there as root with bash; prints its
# stdout and stderr (merged) and exits with its exit status.
#
# In the guest: /run and /dev/shm are empty tmpfs; /run/out is a host directory,
# writable (OUT=dir names it; without OUT it is thrown away); the working
# directory is the caller's.  COMMAND's stdin is /dev/null; its stdout a file.
#
# Exit: COMMAND's status; 124 when TIMEOUT passed; 125 when the guest died or
# could not be prepared (the kernel's console is printed to stderr then).
#
# Environment, all optional:
#   KDIR=/tmp/kernels   where tools, kernels and runs are kept
#   TIMEOUT=540         seconds for the whole boot and COMMAND
#   MEM=2048 SMP=1      guest memory (MiB), CPUs.  Keep one CPU with qemu before 8.1
#                       (bookworm's is 7.2): with more, the kernel now and then dies
#                       of 'Oops: int3' (qemu's deba78709a mends it)
#   CPU=max,la57=off    qemu's -cpu;  ACCEL=tcg,thread=multi  its -accel
#   APPEND=             more kernel command line
#   OUT=dir             a host directory to appear as /run/out
#   REFRESH=1           look for a newer kernel in the archive
#   CONSOLE=1           print the kernel's console to stderr at the end
#   VERBOSE=1           say what the script does
set -u
SUITE=${1:?usage: run-in-kernel.sh SUITE COMMAND}
COMMAND=${2:?usage: run-in-kernel.sh SUITE COMMAND}
KDIR=${KDIR:-/tmp/kernels} TIMEOUT=${TIMEOUT:-540} MEM=${MEM:-2048} SMP=${SMP:-1}
CPU=${CPU:-max,la57=off} ACCEL=${ACCEL:-tcg,thread=multi}
# the archive this machine itself uses, without its last part (…/debian, …/debian-security)
MIRROR=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 2>/dev/null | sed -n 's#/debian/*$##p' | head -1)}
say() { [ -z "${VERBOSE:-}" ] || echo "run-in-kernel: $*" >&2; }
die() { echo "run-in-kernel: $*" >&2; exit 125; }
renice -n 10 -p $$ >/dev/null 2>&1
mkdir -p "$KDIR/cache" "$KDIR/runs" || die "cannot write $KDIR"
KDIR=$(readlink -f "$KDIR")

# --- a private apt, whose lists and cache are under $KDIR -------------------
# apt_for SUITE STATUSFILE: sets the array APT
apt_for() {
  local w=$KDIR/apt/$1 k=/usr/share/keyrings/debian-archive-keyring.gpg
  mkdir -p "$w/lists/partial" "$w/cache/partial"
  echo "deb [signed-by=$k] $MIRROR/debian $1 main" >"$w/s.list"
  case $1 in
    sid|unstable|experimental|testing|*-*) ;;
    *) echo "deb [signed-by=$k] $MIRROR/debian-security $1-security main" >>"$w/s.list" ;;
  esac
  [ "$2" ] || { : >"$w/status"; set -- "$1" "$w/status"; }
  APT=(-q -o Dir::Etc::sourcelist="$w/s.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o Dir::State::Lists="$w/lists" -o Dir::State::status="$2"
    -o Dir::Cache="$w/cache" -o Dir::Cache::archives="$w/cache"
    -o APT::Default-Release= -o APT::Sandbox::User=root -o Debug::NoLocking=1)
}

# --- qemu and kmod, unpacked, not installed ---------------------------------
T=$KDIR/tools
get_tools() {
  [ -e "$T/.done" ] && return
  say "fetching qemu and kmod"
  local host; host=$(. /etc/os-release; echo "$VERSION_CODENAME")
  apt_for "$host" /var/lib/dpkg/status
  {
    apt-get "${APT[@]}" update &&
    apt-get "${APT[@]}" -y --no-install-recommends --download-only install qemu-system-x86 kmod busybox-static
  } >"$KDIR/tools.log" 2>&1 || die "cannot fetch qemu: see $KDIR/tools.log"
  mkdir -p "$T"
  local d; for d in "$KDIR/apt/$host/cache"/*.deb; do dpkg -x "$d" "$T" || die "cannot unpack $d"; done
  : >"$T/.done"
}

# --- the kernel --------------------------------------------------------------
K=$KDIR/cache/$SUITE
get_kernel() {
  [ -e "$K/.done" ] && [ -z "${REFRESH:-}" ] && return
  say "fetching the kernel of $SUITE"
  apt_for "$SUITE" ''
  local log=$KDIR/cache/$SUITE.log new=$K.new.$$ p pkgs
  apt-get "${APT[@]}" update >"$log" 2>&1 || die "apt-get update for $SUITE failed: see $log"
  # linux-image-amd64 -> linux-image-VERSION (-> linux-binary-, -modules-, -base-VERSION since 7.x)
  p=$(apt-cache "${APT[@]}" depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
  [ "$p" ] || die "no linux-image-amd64 in $SUITE"
  [ -e "$K/.done" ] && [ "$(cat "$K/.done")" = "$p" ] && return
  pkgs="$p $(apt-cache "${APT[@]}" depends "$p" | sed -n 's/^ *Depends: \(linux-\(binary\|modules\|base\)-[0-9].*\)/\1/p' | sort -u)"
  say "downloading" $pkgs
  mkdir -p "$new/debs" "$new/root" || die "cannot write $new"
  (cd "$new/debs" && apt-get "${APT[@]}" download $pkgs) >>"$log" 2>&1 || die "download failed: see $log"
  for p in "$new"/debs/*.deb; do dpkg -x "$p" "$new/root" || die "cannot unpack $p"; done
  rm -rf "$new/debs" "$new/root/usr/share"
  make_initrd "$new"
  apt-cache "${APT[@]}" depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1 >"$new/.done"
  rm -rf "$K"; mv "$new" "$K"
}

kmod() { # kmod TOOL ARGS...
  local t=$1; shift
  if [ -x "$T/bin/kmod" ]; then
    (exec -a "$t" "$T/bin/kmod" "$@")
  else "$t" "$@"; fi
}
BB=$(command -v busybox || echo "$T/bin/busybox")

make_initrd() { # DIR with root/
  local d=$1 mods ver i m o n=0
  mods=$d/root/lib/modules; [ -d "$mods" ] || mods=$d/root/usr/lib/modules
  ver=$(ls "$mods" | head -1)
  echo "$ver" >"$d/version"
  [ -d "$d/root/lib" ] || ln -s usr/lib "$d/root/lib"
  kmod depmod -b "$d/root" "$ver" || die "depmod failed"
  i=$d/initrd; mkdir -p "$i"/{bin,m,proc,sys,dev,lower,upper,root}
  cp "$BB" "$i/bin/busybox"
  # virtio_pci and friends are modules in some kernels and built in others
  for m in virtio_pci 9pnet_virtio 9p overlay; do
    kmod modprobe -d "$d/root" -S "$ver" --ignore-install --show-depends "$m" >>"$d/insmods" || die "no module $m in $ver"
  done
  for m in $(sed -n 's/^insmod \([^ ]*\).*/\1/p' "$d/insmods" | awk '!s[$0]++'); do
    n=$((n + 1)); o=$i/m/$(printf %02d $n)-$(basename "${m%%.ko*}").ko
    case $m in
      *.xz) xz -dc "$m" >"$o" ;; *.zst) zstd -qdc "$m" >"$o" ;; *.gz) gzip -dc "$m" >"$o" ;; *) cp "$m" "$o" ;;
    esac || die "cannot read $m"
  done
  cat >"$i/init" <<'INIT'
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sysfs /sys; $B mount -t devtmpfs dev /dev
for m in /m/*.ko; do [ -e $m ] || continue; $B insmod $m || echo "init: cannot load $m"; done
N="trans=virtio,version=9p2000.L,msize=512000"
$B mount -t 9p -o $N,ro,cache=loose hostroot /lower || { echo "init: no host root"; $B poweroff -f; }
$B mount -t tmpfs -o mode=755,size=75% tmpfs /upper; $B mkdir /upper/u /upper/w
$B mount -t overlay -o lowerdir=/lower,upperdir=/upper/u,workdir=/upper/w overlay /root || { echo "init: no overlay"; $B poweroff -f; }
$B mount -t tmpfs -o mode=755 tmpfs /root/run; $B mkdir /root/run/out /root/run/vm
$B mount -t 9p -o $N,rw,cache=none out /root/run/out || echo "init: no out"
$B mount -t 9p -o $N,rw,cache=none vm /root/run/vm || { echo "init: no vm"; $B poweroff -f; }
for d in proc sys dev; do $B mkdir -p /root/$d; $B mount --move /$d /root/$d; done
exec $B switch_root /root /bin/bash /run/vm/stage2
INIT
  chmod +x "$i/init" "$i/bin/busybox"; ln -sf /bin/busybox "$i/bin/sh"
  # the kernel runs /init; busybox is at /bin/busybox
  (cd "$i" && find . | "$BB" cpio -o -H newc 2>/dev/null | gzip -1) >"$d/initrd.gz" || die "cannot make the initrd"
  rm -rf "$i"
  m=$(ls "$d"/root/boot/vmlinuz-* "$mods/$ver"/vmlinuz 2>/dev/null | head -1)
  [ "$m" ] || die "no vmlinuz in $SUITE's packages"
  ln -s "${m#"$d"/}" "$d/vmlinuz"
}

exec 9>"$KDIR/lock"; flock 9
get_tools; get_kernel
flock -u 9; exec 9>&-

# --- one run -----------------------------------------------------------------
R=$(mktemp -d "$KDIR/runs/XXXXXX") || die "cannot make a run directory"
mkdir "$R/vm"; [ -n "${OUT:-}" ] || OUT=$R/out; mkdir -p "$OUT"; OUT=$(readlink -f "$OUT")
VER=$(cat "$K/version")
printf '%s\n' "$COMMAND" >"$R/vm/command"
cat >"$R/vm/stage2" <<EOF2
K='$(readlink -f "$K")' T='$(readlink -f "$T")' VER='$VER' CWD=$(printf %q "$PWD")
EOF2
cat >>"$R/vm/stage2" <<'STAGE2'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8
exec </dev/null >/dev/console 2>&1
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue 2>/dev/null
for l in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
  [ -e /dev/${l%%:*} ] || ln -s ${l#*:} /dev/${l%%:*}; done
mkdir -p /run/lock /run/user
# cgroup v2 only
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo +$c >/sys/fs/cgroup/cgroup.subtree_control; done
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
# modules, loadable on demand
M=$K/root/lib/modules; [ -d $M ] || M=$K/root/usr/lib/modules
mkdir -p /lib/modules/$VER && mount --bind $M/$VER /lib/modules/$VER
cp $K/root/boot/config-* /boot/ 2>/dev/null || cp $M/$VER/config /boot/config-$VER 2>/dev/null
if ! command -v modprobe >/dev/null && [ -x $T/bin/kmod ]; then
  for t in modprobe lsmod insmod rmmod modinfo depmod; do ln -sf $T/bin/kmod /usr/sbin/$t; done
fi
busybox ip link set lo up; hostname "vm-${VER//[^a-z0-9-]/-}"
ulimit -c 0
# what kmod static-nodes and udev would make; opening them loads the module
mkdir -p /dev/net; for n in net/tun:10:200 fuse:10:229 loop-control:10:237; do IFS=: read -r f a b <<<$n; [ -e /dev/$f ] || mknod /dev/$f c $a $b; done
cd "$CWD" 2>/dev/null || cd /
cut -d' ' -f1 /proc/uptime >/run/vm/up
setsid -w bash /run/vm/command </dev/null >>/run/vm/stdout 2>&1; rc=$?
cut -d' ' -f1 /proc/uptime >>/run/vm/up
echo $rc >/run/vm/rc
busybox poweroff -f
STAGE2

Q=$(command -v qemu-system-x86_64) QL=; QENV=()
if [ -z "$Q" ]; then
  Q=$T/usr/bin/qemu-system-x86_64
  QENV=(env LD_LIBRARY_PATH="$T/usr/lib/x86_64-linux-gnu:$T/lib/x86_64-linux-gnu:$T/usr/lib/x86_64-linux-gnu/qemu" QEMU_MODULE_DIR="$T/usr/lib/x86_64-linux-gnu/qemu")
  QL="-L $T/usr/share/seabios -L $T/usr/share/qemu"
fi
: >"$R/vm/stdout"
NINE="security_model=none,multidevs=remap"
say "booting $VER"
T0=$(date +%s.%N)
timeout -k 10 "$TIMEOUT" "${QENV[@]}" "$Q" $QL -nodefaults -no-user-config -display none -no-reboot \
  -machine pc -accel "$ACCEL" -cpu "$CPU" -smp "$SMP" -m "$MEM" \
  -kernel "$K/vmlinuz" -initrd "$K/initrd.gz" \
  -append "console=ttyS0 loglevel=6 panic=-1 cgroup_no_v1=all mitigations=off nokaslr no_timer_check nowatchdog audit=0 random.trust_cpu=1 ${APPEND:-}" \
  -chardev file,id=con,path="$R/console" -serial chardev:con \
  -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng \
  -fsdev "local,id=hostroot,path=/,readonly=on,$NINE" -device virtio-9p-pci,fsdev=hostroot,mount_tag=hostroot \
  -fsdev "local,id=vm,path=$R/vm,$NINE" -device virtio-9p-pci,fsdev=vm,mount_tag=vm \
  -fsdev "local,id=out9,path=$OUT,$NINE" -device virtio-9p-pci,fsdev=out9,mount_tag=out \
  </dev/null >"$R/qemu.log" 2>&1 & QPID=$!
tail -f -s 0.2 -c +1 --pid="$QPID" "$R/vm/stdout" & TAILPID=$!
trap 'kill -TERM $QPID 2>/dev/null; wait $QPID; rm -rf "$R"; exit 130' INT TERM
wait "$QPID"; QRC=$?
wait "$TAILPID"
say "qemu ended with $QRC after $(echo "$(date +%s.%N) - $T0" | bc 2>/dev/null || echo '?') s; guest uptime at COMMAND's start and end: $(tr '\n' ' ' <"$R/vm/up" 2>/dev/null)"
RC=125
[ -s "$R/vm/rc" ] && RC=$(cat "$R/vm/rc")
[ "$QRC" = 124 ] || [ "$QRC" = 137 ] && { echo "run-in-kernel: timed out after $TIMEOUT s" >&2; RC=124; }
if [ "$RC" = 125 ] && [ ! -s "$R/vm/rc" ] || [ -n "${CONSOLE:-}" ]; then
  echo "run-in-kernel: console and qemu's messages:" >&2; cat "$R/console" "$R/qemu.log" >&2
fi
cp "$R/console" "$KDIR/last-console.$SUITE" 2>/dev/null
rm -rf "$R"
exit "$RC"
