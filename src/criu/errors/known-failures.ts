/**
 * What people meet most often when CRIU says no, and what to do about it. The patterns are words of CRIU's log, which
 * change from version to version: they choose the sentence that an error carries, and whether `checkpoint()` tries once
 * more (checkpoint/retry.ts), where a wrong guess does no harm; nothing else.
 * Source: the pr_err lines of CRIU v4.2 in the file that is named, unless it says "seen"; what users report in CRIU's
 * issues, and criu.org/When_C/R_fails.
 */

/** The failure in one word, for `SessionFacts.problem`. */
export type CriuProblem =
  | 'needs-root'
  | 'needs-sys-resource'
  | 'criu-config'
  | 'kernel-too-new'
  | 'kernel-too-old'
  | 'io-uring'
  | 'device-or-unknown-file'
  | 'mount-unsupported'
  | 'mount-external'
  | 'mount-unreachable'
  | 'root-missing'
  | 'chroot'
  | 'tmpfs-content'
  | 'mount-of-another-namespace'
  | 'nested-namespace'
  | 'session-outside-namespace'
  | 'tcp-established'
  | 'tcp-closed'
  | 'tcp-in-flight'
  | 'udp-corked'
  | 'netlink-unread'
  | 'socket-protocol'
  | 'address-taken'
  | 'unix-in-flight'
  | 'memory-shared'
  | 'unix-external'
  | 'network-lock'
  | 'network-tools'
  | 'network-device'
  | 'shell-job'
  | 'file-locks'
  | 'inotify'
  | 'ghost-too-big'
  | 'deleted-file'
  | 'file-changed'
  | 'file-missing'
  | 'pid-taken'
  | 'cgroup-controller'
  | 'cgroup-props'
  | 'freezer-missing'
  | 'freeze-failed'
  | 'task-unstoppable'
  | 'traced'
  | 'seccomp'
  | 'uprobes'
  | 'dirty-tracking'
  | 'page-server'
  | 'lazy-pages'
  | 'cpu-differs'
  | 'cpuinfo-missing'
  | 'plugin-missing'
  | 'sysv-shm'
  | 'parent-images'
  | 'images-missing'
  | 'images-unwritable'
  | 'disk-full';

interface KnownFailure {
  problem: CriuProblem;
  pattern: RegExp;
  /** Only when every line is one of these: CRIU gave no reason. */
  alone?: true;
  remedy: string;
}

const anyOf = (...patterns: RegExp[]): RegExp => new RegExp(patterns.map(({ source }) => source).join('|'));

// The first match wins, over all lines: what is more particular stands above.
const failures: readonly KnownFailure[] = [
  // criu/util.c, criu/cr-service.c, criu/cr-restore.c
  {
    problem: 'needs-root',
    pattern: anyOf(
      /You need to be root/,
      /Can't fork for \d+: Operation not permitted/,
      /Operation not permitted.*(?:kerndat|mapfile)/,
      /mapfile link .*Operation not permitted/,
    ),
    remedy:
      'CRIU has to run as root, with CAP_SYS_ADMIN and CAP_CHECKPOINT_RESTORE; or with the latter and ' +
      '`unprivileged`, within its limits.',
  },
  // criu/cr-dump.c, dump_task_rlimits: prlimit(2) asks for it where a task has other ids than CRIU. Seen
  {
    problem: 'needs-sys-resource',
    pattern: /Can't get rlimit \d+: Operation not permitted/,
    remedy:
      'A task runs as another user, and its limits can be read only with CAP_SYS_RESOURCE, which this process ' +
      'lacks: run Stillframe where it has that capability (see `stillframe doctor`; a container has to be given ' +
      'it).',
  },
  // getopt's words and criu/config.c; seen. CRIU reads these files before it listens, and CRIU_CONFIG_FILE with
  // --no-default-config too
  {
    problem: 'criu-config',
    pattern: /^criu: .*\boption\b|Invalid value for --network-lock/,
    remedy:
      "One of CRIU's configuration files has an option or a value that this CRIU does not know: mend it. They are " +
      "/etc/criu/default.conf, ~/.criu/default.conf, the one that the environment's CRIU_CONFIG_FILE names, and " +
      '`configFile`.',
  },
  // criu/vdso.c, criu/pie/parasite-vdso.c; seen with 3.17.1 on Linux 6.13 and newer
  {
    problem: 'kernel-too-new',
    pattern:
      /Unexpected rt vDSO area bounds|Can't find (?:rt )?vDSO|vdso: .*(?:[Ff]ailed|mismatch|second|Corrupted Elf)/,
    remedy:
      "This CRIU does not know this kernel's vDSO: install a newer CRIU (4.1 for Linux 6.13) and set " +
      'STILLFRAME_CRIU to its path.',
  },
  // criu/sockets.c; seen with 4.1.1 on Linux 6.18: SO_PASSCRED and SO_PASSSEC are refused for sockets that are not
  // unix's. CRIU issue 2804
  {
    problem: 'kernel-too-new',
    pattern: /sockets: Can't get 1:(?:16|34) opt: Operation not supported/,
    remedy:
      'Linux 6.16 and newer refuse socket options that this CRIU asks for: use CRIU 4.2 or newer ' +
      '(STILLFRAME_CRIU), or close the sockets.',
  },
  // criu/sockets.c; seen with 4.1.1 on Linux 7.2, where only a log of level 4 says "Sockects collect procedure ...
  // IPPROTO_UDPLITE: -2"
  {
    problem: 'kernel-too-new',
    pattern: /Dumping FAILED|RLIMIT_NOFILE/,
    alone: true,
    remedy:
      'CRIU gave no reason. One that does so is older than 4.2 and lists the sockets of a network namespace on ' +
      'Linux 7.2, which no longer has UDP-Lite: use CRIU 4.2 or newer (STILLFRAME_CRIU). Otherwise a log of ' +
      '`logLevel: 4` may tell more.',
  },
  // criu/cr-dump.c, check_thread_rseq
  {
    problem: 'kernel-too-old',
    pattern: /has rseq but kernel lacks get_rseq_conf/,
    remedy:
      'A task uses restartable sequences, as every program does with glibc 2.35 or newer, and CRIU can read them ' +
      'from Linux 5.13 on only: use a newer kernel, or start the program with GLIBC_TUNABLES=glibc.pthread.rseq=0.',
  },
  // criu/proc_parse.c and files-ext.c; Linux 6.7 and newer refuse to pass an io_uring as a descriptor: seen as send_fds
  // -22. CRIU issues 2131, 3070
  {
    problem: 'io-uring',
    pattern: /io_uring|send_fds failed \(-22\)/,
    remedy:
      'A task uses io_uring, which no CRIU can dump: turn it off in the program (UV_USE_IO_URING=0 for libuv), or ' +
      'kernel-wide with the sysctl kernel.io_uring_disabled=2 before it starts.',
  },
  // criu/files-ext.c, criu/proc_parse.c
  {
    problem: 'device-or-unknown-file',
    pattern:
      /Can't dump file \d+ of that type|Unknown shit|Can't handle non-regular mapping|handle_device_vma plugin failed/,
    remedy:
      'A task has a file open or mapped that CRIU cannot dump (a device, or a kind it does not know): close it ' +
      'before the checkpoint, name it in `external`, or add the CRIU plugin for the device.',
  },
  // criu/mount.c, the check of file system types
  {
    problem: 'mount-unsupported',
    pattern: /FS mnt .* unsupported id|is a fuse mount but not external/,
    remedy:
      "A file system that CRIU cannot dump is mounted in the tree's mount namespace: unmount it, name it in " +
      '`external` ("mnt[MOUNTPOINT]:KEY"), leave it out with `skipMnt`, or list its type in `enableFs`.',
  },
  // criu/mount.c
  {
    problem: 'mount-external',
    pattern: /doesn't have a proper root mount|autodetected external mount|No mapping for \d+:.* mountpoint/,
    remedy:
      'A mount comes from outside the tree\'s mount namespace: name it in `external`, as "mnt[MOUNTPOINT]:KEY" on ' +
      'dump and "mnt[KEY]:SOURCE" on restore; or set `autoExtMnt`.',
  },
  // criu/mount.c, criu/mount-v2.c
  {
    problem: 'mount-unreachable',
    pattern: /has unreachable sharing|External slavery sharing group/,
    remedy:
      'A mount propagates to or from one outside the tree: set `extMasters`, or make it private ' +
      '(mount --make-rprivate) when the tree is started.',
  },
  // criu/mount.c, criu/mount-v2.c: with `mntnsCompatMode` CRIU says what it lacks, else it ends in a BUG of
  // service_mountpoint. Seen with 4.1.1, 4.2.1 and 4.3. Before either it unmounts all of a copy of its own namespace
  // (prepare_mnt_ns), which fails where one is busy: below /sys with tracefs or debugfs, as on most machines.
  {
    problem: 'root-missing',
    pattern: /The --root option is required|BUG at criu\/mount\.c:4\d\b|Can't umount at /,
    remedy: 'The tree has a mount namespace of its own: set `root` to the path of its root.',
  },
  // criu/mount.c, __mntns_get_root_fd
  {
    problem: 'chroot',
    pattern: /root task has another root than mntns/,
    remedy:
      'The root of the tree is in a chroot inside its mount namespace, which CRIU cannot dump: start it with ' +
      'pivot_root in place of chroot.',
  },
  // criu/filesystems.c
  {
    problem: 'tmpfs-content',
    pattern: /execvp\("tar"/,
    remedy: 'CRIU packs what is on a tmpfs of the tree with GNU tar, which is not on its PATH: install it.',
  },
  {
    problem: 'tmpfs-content',
    pattern: /Can't (?:dump|restore) tmpfs content/,
    remedy:
      'CRIU packs what is on a tmpfs of the tree with GNU tar (no other tar will do), which failed: its own words ' +
      'are in the log. When a file changed as it was read, somebody outside the tree writes to that tmpfs.',
  },
  // criu/files-reg.c; criu/external.c
  {
    problem: 'mount-of-another-namespace',
    pattern: /Can't lookup mount=|Unable to find an external/,
    remedy:
      'A task holds a file, mapping or namespace from outside the tree, which CRIU has to be told of: start the ' +
      'program from a mount inside, give it /dev/null or a pipe for its output, or name the resource in ' +
      '`external`.',
  },
  // criu/namespaces.c, criu/mount.c
  {
    problem: 'nested-namespace',
    pattern: /Can't dump nested|Nested mount namespaces are not supported|pid namespace without the process init/,
    remedy:
      'A task lives in a namespace below that of the root of the tree, which CRIU cannot dump (pid, user and time ' +
      "namespaces can not be nested): checkpoint the inner tree by itself, with the namespace's init as root.",
  },
  {
    problem: 'session-outside-namespace',
    pattern: /A session leader of .* is outside of its pid namespace/,
    remedy:
      'The session that the tree belongs to was begun outside its pid namespace, as for a command that was sent ' +
      'into a container: CRIU cannot name it in the images, with `shellJob` or without. Start the program with ' +
      'setsid inside the namespace.',
  },
  // criu/sk-inet.c
  {
    problem: 'tcp-in-flight',
    pattern: /In-flight connection \(l\)/,
    remedy:
      'A TCP connection waits to be accepted: set `tcpSkipInFlight` to leave it out (its client will be reset), or ' +
      'try again a moment later (`retries`).',
  },
  {
    problem: 'tcp-established',
    pattern: /Connected TCP socket/,
    remedy:
      'The tree has established TCP connections: set `tcpEstablished` to keep them (the restore needs the same ' +
      'address), or `tcpClose` to have them closed.',
  },
  // criu/image.c
  {
    problem: 'tcp-closed',
    pattern: /Need to set the --tcp-close/,
    remedy: 'The dump was made with `tcpClose`: set it on restore too.',
  },
  // criu/sk-inet.c; soccr/soccr.c
  {
    problem: 'address-taken',
    pattern: /Can't (?:bind|connect) inet socket/,
    remedy:
      'An address or a port of the tree is taken, or is not on this machine: free it or add it, or restore in a ' +
      'network namespace of its own.',
  },
  // criu/sk-inet.c; seen. 4.2 dumps the sockets of ping (1 and 58)
  {
    problem: 'socket-protocol',
    pattern: /Unsupported proto 262 /,
    remedy:
      'A task has an MPTCP socket, which CRIU cannot dump: have the program use plain TCP (GODEBUG=multipathtcp=0 ' +
      'for Go).',
  },
  {
    problem: 'socket-protocol',
    pattern: /Unsupported proto \d+ /,
    remedy:
      'A task has a socket of a protocol that CRIU cannot dump (by its number in /etc/protocols): close it before ' +
      'the checkpoint. ICMP sockets it can dump from 4.2 on.',
  },
  {
    problem: 'udp-corked',
    pattern: /Can't dump corked dgram socket/,
    remedy: 'A UDP socket is corked, with a datagram begun and not sent: try again a moment later (`retries`).',
  },
  // criu/sk-netlink.c
  {
    problem: 'netlink-unread',
    pattern: /netlink: The socket has data to read/,
    remedy: 'A netlink socket of the tree has a message that was not read yet: try again a moment later (`retries`).',
  },
  // criu/sk-unix.c, collect_one_unix; seen
  {
    problem: 'unix-in-flight',
    pattern: /in-flight socket|In-flight connection on non-listening/,
    remedy:
      'A connection to a unix socket of the tree was made and written to, and not accepted yet: try again a moment ' +
      'later (`retries`).',
  },
  // criu/namespaces.c, dump_task_kobj_ids
  {
    problem: 'memory-shared',
    pattern: /Can't make VM id for/,
    remedy: 'Two processes share their memory (clone with CLONE_VM and without CLONE_THREAD), which CRIU cannot dump.',
  },
  // criu/sk-unix.c
  {
    problem: 'unix-external',
    pattern:
      /External socket (?:is used|found)|half of stream unix connection|name-less external socket|Dangling connection/,
    remedy:
      "A unix socket's other end is outside the tree: checkpoint both ends, close it, or set `extUnixSk` (for " +
      'sockets with a name), or name it in `external` ("unix[INODE]").',
  },
  // criu/netfilter.c; criu/net.c
  {
    problem: 'network-lock',
    pattern: anyOf(
      /execvp\("ip6?tables/,
      /Iptables configuration failed/,
      /[Ll]ocking (?:network|connection) failed/,
      /without libnftables support/,
    ),
    remedy:
      "CRIU cannot lock the network: install iptables, choose `networkLock: 'nftables'`, or 'skip' when no TCP " +
      'connection is dumped.',
  },
  // criu/net.c
  {
    problem: 'network-tools',
    pattern: /execvp\("ip"/,
    remedy:
      'CRIU saves and restores a network namespace with the command `ip`, which is not on its PATH: install iproute2.',
  },
  {
    problem: 'network-tools',
    pattern: /IP tool failed/,
    remedy:
      'CRIU saves and restores a network namespace with the command `ip` (iproute2), which failed: its own words ' +
      'are in the log.',
  },
  {
    problem: 'network-device',
    pattern: /Unsupported link \d+/,
    remedy:
      "A network device of the tree's network namespace is of a kind that CRIU cannot dump: remove it before the " +
      "checkpoint, or set `emptyNs: ['net']` and make the devices yourself on restore.",
  },
  // criu/tty.c
  {
    problem: 'shell-job',
    pattern: /tty to inherit session from/,
    remedy:
      'The tree takes the terminal of the process that restores it, and that has none: restore from a terminal, or ' +
      'give one as `terminal`.',
  },
  {
    problem: 'shell-job',
    pattern: /Found slave peer index \d+ without/,
    remedy:
      "The other end (the master) of the tree's terminal is outside it: set `shellJob` or `orphanPtsMaster`, on " +
      'dump and restore, or start the program without a terminal.',
  },
  // criu/pstree.c, criu/tty.c
  {
    problem: 'shell-job',
    pattern: /is not a session leader|dangling tty|Can't find a session leader/,
    remedy:
      'The session or the terminal of the tree is outside it: set `shellJob` on dump and restore, or start the ' +
      'program with setsid and without a terminal.',
  },
  // criu/tty.c, tty_set_prgp; seen
  {
    problem: 'shell-job',
    pattern: /Failed to set group \d+ on \d+/,
    remedy:
      'The `terminal` is the controlling terminal of another session: give the restore one of this process or of ' +
      'nobody.',
  },
  // criu/file-lock.c
  {
    problem: 'file-locks',
    pattern: /Some file locks are hold/,
    remedy: 'The tree holds file locks: set `fileLocks` on dump and restore.',
  },
  // criu/fsnotify.c; seen with a watched directory that was removed (tmpfs), and with one on an overlay. `forceIrmap`
  // changes nothing here: CRIU searches anyway
  {
    problem: 'inotify',
    pattern: /Can't dump that handle|Can't find suitable path for handle/,
    remedy:
      'A task watches a file or directory by inotify or fanotify whose path CRIU cannot find: name the directories ' +
      'to search in `irmapScanPaths`, or close the watch; what was removed (on a tmpfs) has no path.',
  },
  // criu/files-reg.c
  {
    problem: 'ghost-too-big',
    pattern: /Can't dump ghost file .* increase limit/,
    remedy: 'A deleted file that is still open is larger than what is copied into the images: raise `ghostLimit`.',
  },
  {
    problem: 'deleted-file',
    pattern: /Can't create link remap/,
    remedy: 'A file that is open or mapped was deleted while it has other links: set `linkRemap`.',
  },
  {
    problem: 'file-changed',
    pattern: /has bad mode/,
    remedy:
      'A file that the tree has open has not the permission bits that it had at the dump: put them back, or set ' +
      '`skipFileRwxCheck`.',
  },
  {
    problem: 'file-changed',
    pattern: /has bad size|has bad build-ID/,
    remedy:
      'A file that the tree has open is not as it was at the dump: put it back as it was then (an archive holds ' +
      'the trees that `files` named).',
  },
  // criu/cgroup-props.c
  {
    problem: 'cgroup-props',
    pattern: /cg-prop: (?:Can't open|Failed to parse) file/,
    remedy: "CRIU cannot read the file that `cgroupPropsFile` names: give an absolute path to YAML of CRIU's kind.",
  },
  // criu/files-reg.c
  {
    problem: 'file-missing',
    pattern: /Can't open file .*No such file/,
    remedy: 'A file that the tree had open or mapped is not there: put it back before the restore.',
  },
  // criu/cr-restore.c
  {
    problem: 'pid-taken',
    pattern: /Can't fork for \d+: File exists|do not match expected|Thread pid mismatch/,
    remedy:
      'A pid of the tree is taken: wait until its holder has ended and been reaped, or restore into a pid ' +
      'namespace of its own.',
  },
  // criu/cgroup.c
  {
    problem: 'cgroup-controller',
    pattern: anyOf(
      /controller \S+ not found/,
      /No cg_controller_entry found/,
      /Can't (?:make|mount) controller dir/,
      /Cgroup dir .* doesn't exist/,
      /Can't move (?:.* )?into /,
    ),
    remedy:
      'A cgroup controller or group of the dump is not on this system: mount it, map it with `cgRoot`, or leave ' +
      "cgroups alone with `manageCgroups: 'ignore'` and place the tasks yourself.",
  },
  // criu/seize.c
  {
    problem: 'freezer-missing',
    pattern: /Neither a cgroupv1/,
    remedy:
      '`freezeCgroup` is not a cgroup with a freezer: name a directory that has freezer.state (v1) or ' +
      'cgroup.freeze (v2; its root has none), or leave it out.',
  },
  {
    problem: 'freeze-failed',
    pattern: /Unable to freeze cgroup/,
    remedy:
      'The cgroup did not freeze in time: a task waits in the kernel (state D, such as on a network file system), ' +
      'or more keep appearing. Raise `timeoutSeconds`.',
  },
  // compel/src/lib/infect.c; seen with vfork: CRIU tries for `timeoutSeconds`
  {
    problem: 'task-unstoppable',
    pattern: /Unseizable non-zombie \d+ found, state D/,
    remedy:
      'A task waits in the kernel where nothing can stop it: for its vfork child to start a program (try again a ' +
      'moment later), or for a disk or a network file system.',
  },
  // criu/cr-dump.c, alarm_handler: it interrupts the wait for a task, which is then called unseizable, as if it were
  // traced
  {
    problem: 'freeze-failed',
    pattern: /Timeout reached\. Try to interrupt/,
    remedy: 'CRIU could not stop all tasks within `timeoutSeconds`: raise it.',
  },
  // compel/src/lib/infect.c: a warning, and for the root of the tree the only word of it (log.ts keeps it)
  {
    problem: 'traced',
    pattern: /Unable to interrupt task: \d+ \(Operation not permitted\)|Unseizable non-zombie/,
    remedy:
      'A task is traced by another program (a debugger, strace; TracerPid in /proc/PID/status): end that one ' +
      'first. Or it ended while CRIU stopped it: try again. Kernel threads and zombies cannot be dumped.',
  },
  // criu/cr-check.c, criu/seccomp.c
  {
    problem: 'seccomp',
    pattern: /seccomp(?!\.img)/i,
    remedy:
      'A task has seccomp filters, and CRIU could not read or put them back: the kernel needs ' +
      'CONFIG_SECCOMP_FILTER and CONFIG_CHECKPOINT_RESTORE, CRIU full capabilities, and it must not run under a ' +
      'filter itself.',
  },
  // criu/image.c, criu/proc_parse.c; since 4.2. There is no field for it in CRIU's RPC
  {
    problem: 'uprobes',
    pattern: /Dumped with --allow-uprobes|has uprobes vma/,
    remedy:
      'A task is probed from outside (uprobes, as of perf, bpftrace or systemtap): end the probe and start the ' +
      'program again, or put the line "allow-uprobes" into a `configFile`, on dump and restore.',
  },
  // criu/config.c
  {
    problem: 'dirty-tracking',
    pattern: /Tracking memory is not available|dirty memory tracker/,
    remedy: 'This kernel does not track dirty memory (CONFIG_MEM_SOFT_DIRTY): do without pre-dumps.',
  },
  // criu/util.c, setup_tcp_client: that nobody listens is no error there, and below log level 3 CRIU gives no reason;
  // criu/cr-dump.c then lets go of a tree that it does not hold yet. Seen with 4.1.1 and 4.3
  {
    problem: 'page-server',
    pattern: /Unable to detach from \d+: No such process|Dumping FAILED/,
    alone: true,
    remedy:
      'CRIU gave no reason, and had not stopped the tree yet. With a `pageServer` it could not connect to it: does ' +
      'it listen at that address and port, and has it not served another dump already? Otherwise dump with ' +
      '`logLevel: 4`, and look where the log ends.',
  },
  // criu/page-pipe.c, pipe_read_dest_init; seen where the server runs without the capability
  {
    problem: 'lazy-pages',
    pattern: /page-pipe: splice: -1: Bad file descriptor|Lazy pages transfer FAILED/,
    remedy:
      'Serving memory on demand needs CAP_SYS_RESOURCE, or a larger fs.pipe-max-size: CRIU could not enlarge its pipe.',
  },
  // criu/uffd.c, criu/pie/restorer.c
  {
    problem: 'lazy-pages',
    pattern: /lazy-pages|uffd/,
    remedy:
      'Memory could not be brought on demand: does the lazy-pages daemon run on the same work directory, and does ' +
      'the kernel have userfaultfd (CONFIG_USERFAULTFD)?',
  },
  // criu/arch/x86/cpu.c
  {
    problem: 'cpu-differs',
    pattern: anyOf(
      /CPU instruction capabilities/,
      /CPU capabilities do not match/,
      /FPU feature required/,
      /CPU xsave/,
      /CPU xfeatures/,
      /Unknown cpu vendor/,
    ),
    remedy:
      'The processor lacks something that the one of the dump had: restore on a like one, or relax the check with ' +
      '`cpuCap`.',
  },
  {
    problem: 'cpuinfo-missing',
    pattern: /No cpuinfo image/,
    remedy:
      'The dump was made without `cpuCap`, so it does not say what its processor had: leave `cpuCap` out on restore.',
  },
  // criu/image.c, check_inventory_plugins
  {
    problem: 'plugin-missing',
    pattern: /Missing required plugin/,
    remedy:
      'The dump was made with a CRIU plugin that is not here: install the same plugins (CRIU_LIBS_DIR says where ' +
      'CRIU looks for them).',
  },
  // criu/cr-dump.c
  {
    problem: 'sysv-shm',
    pattern: /SysVIPC shmem map/,
    remedy:
      'The tree uses System V shared memory of the host: start it in an IPC namespace of its own (unshare --ipc).',
  },
  // criu/image.c, criu/pagemap.c, criu/page-xfer.c, criu/mem.c
  {
    problem: 'parent-images',
    pattern: anyOf(
      /Invalid parent image directory/,
      /Failed to open parent/,
      /Can't open parent path/,
      /[Nn]o parent (?:image found|inventory)/,
      /No parent for snapshot pagemap/,
    ),
    remedy:
      'The images of the pre-dump before this one are not where `parentImg` says: it is a path relative to ' +
      '`imagesDir`.',
  },
  // criu/image.c, do_open_image; criu/log.c, log_init; seen
  {
    problem: 'images-unwritable',
    pattern: anyOf(
      /Unable to open \S+\.img: (?:Read-only file system|Permission denied)/,
      /Can't initiate log: (?:Read-only file system|Permission denied)/,
    ),
    remedy: "CRIU cannot write to the images' directory, or to `workDir`, where its log goes: choose others.",
  },
  // criu/protobuf.c; 4.1 says the same of cpuinfo.img
  {
    problem: 'images-missing',
    pattern: /Unexpected EOF on \(empty-image\)|Img trimmed/,
    remedy:
      'An image is missing or cut short: is there a whole dump in `imagesDir`? With `cpuCap` it has to be one that ' +
      'was made with it.',
  },
  {
    problem: 'disk-full',
    pattern: /No space left on device/,
    remedy: "The disk is full: make room, or choose another images' directory.",
  },
];

/** The first failure that one of the lines is known to mean. CRIU's errors cascade: the oldest lines come first. */
export function knownFailure(lines: readonly string[]): { problem: CriuProblem; remedy: string } | undefined {
  return failures.find(({ pattern, alone }) =>
    alone === true
      ? lines.length > 0 && lines.every((line) => pattern.test(line))
      : lines.some((line) => pattern.test(line)),
  );
}

export function remedyOf(problem: CriuProblem): string {
  return failures.find((failure) => failure.problem === problem)?.remedy ?? '';
}
