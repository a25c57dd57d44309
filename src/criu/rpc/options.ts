/**
 * Options of a CRIU request that works on images. Every option is left to CRIU's default when absent, but for
 * `manageCgroups`: a flag is off and everything else is unset, unless its comment names a default. Versions: the first
 * CRIU whose RPC knows the option; an older one makes the request fail with CRIU_OPTION_UNSUPPORTED before anything is
 * touched (CRIU itself would ignore the option in silence). Relative paths are ours: they go to CRIU, which has another
 * working directory, as absolute ones; but for `parentImg` and what stands inside other values. Source:
 * images/rpc.proto and criu/cr-service.c, CRIU v4.3.
 */
export interface CriuOptions {
  // ---- where things are ----

  /**
   * Where the log and the statistics go: a path, or a descriptor of ours. Default: the images' directory. Since 1.2.
   */
  workDir?: string | number;
  /**
   * The images of the dump before this one, as a path relative to the images' directory, which must not have another
   * parent already. Since 1.2.
   */
  parentImg?: string;
  /** The log's name inside `workDir`, without a slash. Default "criu.log". Since 0.8. */
  logFile?: string;
  /** 1 errors, 2 and warnings, 3 and information with times, 4 everything. Default 2. Since 0.8. */
  logLevel?: 1 | 2 | 3 | 4;
  /** Log to CRIU's stderr (of which errors carry the end) when there is no `logFile`. Since 3.19. */
  logToStderr?: boolean;
  /**
   * Print the statistics on CRIU's stdout, too: that of a `criu service`; of a CRIU that `start()` has started nobody
   * reads it. Since 3.19.
   */
  displayStats?: boolean;
  /**
   * A CRIU configuration file; what it says wins over these options (with `log-file` in it, `onLog` and errors do not
   * find the log). It can set what has no field in the RPC, such as allow-uprobes. CRIU before 4.2.1 crashes over
   * `network-lock` in it, and 4.1 runs an `action-script` in it twice. One that is not there is ignored. Since 3.11.
   */
  configFile?: string;
  /** Restore: the path that becomes the root of a new mount namespace. Since 1.2. */
  root?: string;

  // ---- what happens to the tasks ----

  /** Dump: the tasks run on afterwards. Default: they are killed. Since 0.8. */
  leaveRunning?: boolean;
  /**
   * The tasks are stopped (SIGSTOP) afterwards, also those of a restore. Wins over `leaveRunning`; the network of a
   * dumped tree stays locked. Since 3.19.
   */
  leaveStopped?: boolean;
  /**
   * How many seconds CRIU tries to stop all tasks before it gives up. Default 10; 0: no limit, or 10 with
   * `freezeCgroup`. Since 2.4.
   */
  timeoutSeconds?: number;
  /** The freezer cgroup (v1 or v2) through which CRIU stops the tasks, instead of one by one. Since 2.4. */
  freezeCgroup?: string;
  /**
   * Dump and restore a tree whose session or process group leader is outside, such as a shell's job. If it has a
   * terminal, the restore needs one: `terminal` of `CriuClient.start()`. Since 0.8.
   */
  shellJob?: boolean;
  /** Restore: the root task becomes a child of this process, not of CRIU. This process must reap it. Since 1.4. */
  rstSibling?: boolean;
  /** Restore: run this program in CRIU's place when done; it becomes the root task's parent. Since 1.3. */
  execCmd?: readonly string[];
  /** Run without root, within the limits of CAP_CHECKPOINT_RESTORE. Since 3.18. */
  unprivileged?: boolean;
  /**
   * Dump: write what the processor can do. Restore: compare it with this one's; needs a dump that wrote it, whatever is
   * named here. Default: neither; CRIU then only wants a processor that can do what it itself needs. Since 1.3.
   */
  cpuCap?: readonly CpuCap[];

  // ---- memory ----

  /** Track memory changes, so that the next dump can write those only. Needs kernel support. Since 1.2. */
  trackMem?: boolean;
  /** Dump: free pages in the parent images that this one replaces. Restore: free pages once restored. Since 1.2. */
  autoDedup?: boolean;
  /**
   * How a pre-dump reads memory: by pipes from inside the task, or with process_vm_readv. Default "splice". Since 3.14.
   */
  preDumpMode?: 'splice' | 'read';
  /** Leave memory behind and bring it on demand (userfaultfd). Since 3.5. */
  lazyPages?: boolean;
  /**
   * Send memory to a page server instead of the images' directory; with `lazyPages`, be the one that serves it.
   * Since 1.2.
   */
  pageServer?: PageServer;
  /**
   * An unbound unix datagram socket of ours where pre-dumps keep pidfds, the same one in all rounds and the dump: CRIU
   * then notices reused pids. Since 3.16.
   */
  pidfdStoreSk?: number;
  /**
   * How memory images are written and read: through the page cache, or past it (O_DIRECT). Default "writeback".
   * Since 4.3.
   */
  imageIoMode?: 'writeback' | 'direct';
  /**
   * Compress memory images. Needs a CRIU with LZ4 (Debian's has none): the feature `memCompression`. Default "off",
   * "lz4" with one of the next two. Since 4.3.
   */
  compress?: 'off' | 'lz4';
  /** LZ4's acceleration, 1 to 65537: higher is faster and larger. Not with `compress: 'off'`. Since 4.3. */
  compressAcceleration?: number;
  /** How much is compressed as one, in bytes, a multiple of the page size. Not with `compress: 'off'`. Since 4.3. */
  compressBlockSize?: number;
  /** Restore: threads that decompress, 0 to 1024. Default 1. Since 4.3. */
  decompressThreads?: number;
  /** Write and read images through criu-image-streamer. Since 4.3. */
  stream?: boolean;
  /**
   * What CRIU's plugins are told, each as "PLUGIN.NAME" or "PLUGIN.NAME=VALUE"; of a plugin that is not there in
   * silence. Since 4.3.
   */
  pluginOptions?: readonly string[];
  /** Encrypt the page server's connection. Since 3.13. */
  tls?: boolean;
  /** Path of the certificate authority's certificate. Since 3.13. */
  tlsCacert?: string;
  /** Path of the certificate revocation list. Since 3.13. */
  tlsCacrl?: string;
  /** Path of our certificate. Since 3.13. */
  tlsCert?: string;
  /** Path of our private key. Since 3.13. */
  tlsKey?: string;
  /** Accept a server certificate of another name. Since 3.13. */
  tlsNoCnVerify?: boolean;

  // ---- files ----

  /** Dump file locks. Only right when nothing outside the tree shares them. Since 0.8. */
  fileLocks?: boolean;
  /**
   * Give an open file whose name is gone, but which has others, a temporary name. One without any is copied in any
   * case. Since 1.2.
   */
  linkRemap?: boolean;
  /** Largest deleted file that is copied into the images, in bytes. Default 1 MiB. Since 1.7. */
  ghostLimit?: number | bigint;
  /** Find the paths behind inotify watches by search, even where handles could be opened. Since 1.3. */
  forceIrmap?: boolean;
  /** Where that search looks. Since 1.8. */
  irmapScanPaths?: readonly string[];
  /** Use any path that leads to a device when the task's own does not. Since 0.8. */
  evasiveDevices?: boolean;
  /** Restore: open files although their permission bits differ from the dump's. Since 3.18. */
  skipFileRwxCheck?: boolean;
  /** Restore: descriptors of ours to use where the dump had `key`. They must be in the client's `fds`. Since 1.6. */
  inheritFd?: readonly InheritFd[];
  /**
   * Resources that exist outside the dump, in CRIU's notation ("mnt[/data]:data", "net[123]:name"); the criu(8) manual
   * has all. Since 2.0.
   */
  external?: readonly string[];
  /**
   * Dump: take a terminal whose master is outside. Restore: hand a new master to `onNotify`, as `orphan-pts-master`.
   * Not for a tree whose session is outside: see `shellJob`. Since 2.12.
   */
  orphanPtsMaster?: boolean;

  // ---- mounts and namespaces ----

  /** Treat mounts from outside as external, by themselves. Since 1.6. */
  autoExtMnt?: boolean;
  /** Allow such mounts to be shared (propagate). Since 1.6. */
  extSharing?: boolean;
  /** Allow such mounts to be slaves. Since 1.6. */
  extMasters?: boolean;
  /** Mount points that are left out. Since 1.6. */
  skipMnt?: readonly string[];
  /** File systems to try although CRIU does not know them, or "all". Since 1.6. */
  enableFs?: readonly string[];
  /** Restore: use the mount engine of CRIU before 3.17. Since 3.17. */
  mntnsCompatMode?: boolean;
  /** Create these namespaces without their contents; a notification callback fills them. Since 2.0. */
  emptyNs?: readonly 'net'[];
  /** Restore: namespaces to join instead of making them. Since 2.3. */
  joinNs?: readonly JoinNamespace[];
  /** Restore: skip sysctls that this kernel does not have. Since 2.9. */
  weakSysctls?: boolean;

  // ---- network ----

  /** Dump and restore established TCP connections. Since 0.8. */
  tcpEstablished?: boolean;
  /** Leave out TCP connections that are still being set up. Since 2.4. */
  tcpSkipInFlight?: boolean;
  /**
   * Dump TCP connections as closed; the restore of such images has to say so, too. On restore alone: close those of
   * `tcpEstablished`. Since 3.12.
   */
  tcpClose?: boolean;
  /**
   * How the network is silenced while TCP connections are dumped. Default "iptables"; "skip" needs CRIU 3.19.
   * Since 3.16.
   */
  networkLock?: 'iptables' | 'nftables' | 'skip';
  /** Dump unix sockets whose peer is outside the tree. Since 0.8. */
  extUnixSk?: boolean;

  // ---- cgroups and security ----

  /**
   * What CRIU does about cgroups. Always sent: left alone, `criu swrk` would take "soft". Default "ignore": the
   * caller places the tasks. Since 1.7.
   */
  manageCgroups?: 'ignore' | 'none' | 'props' | 'soft' | 'full' | 'strict' | 'default';
  /** Other roots for the cgroups of a controller, or of all. Since 1.3. */
  cgRoot?: readonly CgroupRoot[];
  /** Which properties of cgroups are dumped, in CRIU's YAML. Since 2.4. */
  cgroupProps?: string;
  /** The same, from a file. Since 2.4. */
  cgroupPropsFile?: string;
  /** Dump these controllers only. Since 2.4. */
  cgroupDumpController?: readonly string[];
  /** A directory where cgroups are mounted already. Since 3.14. */
  cgroupYard?: string;
  /** Restore: "apparmor:NAME" or "selinux:NAME". Since 3.12. */
  lsmProfile?: string;
  /** Restore: the security context of mounts that have one. Since 3.16. */
  lsmMountContext?: string;

  // ---- newer than this library ----

  /**
   * Fields of CRIU's `criu_opts` that this library does not know, by their number in rpc.proto: a message goes as its
   * encoded bytes. A CRIU that does not know them either ignores them in silence.
   */
  rawOptions?: Readonly<Record<number, RawOption>>;

  // ---- kept by CRIU for old callers ----

  /** @deprecated `external` with "veth[IN]:OUT". Since 1.2. */
  veths?: readonly { ifIn: string; ifOut: string }[];
  /** @deprecated `external` with "mnt[KEY]:VALUE". Since 1.3. */
  extMnt?: readonly { key: string; val: string }[];
  /** @deprecated `external` with "unix[INODE]". Needs `extUnixSk`. Since 1.7. */
  unixSkIno?: readonly number[];
  /** @deprecated The notification `status-ready`. A descriptor of ours that gets a zero byte. Since 2.11. */
  statusFd?: number;
}

/** What no dump looks at. @inline */
type OfRestore =
  | 'rstSibling'
  | 'execCmd'
  | 'decompressThreads'
  | 'skipFileRwxCheck'
  | 'inheritFd'
  | 'mntnsCompatMode'
  | 'joinNs'
  | 'weakSysctls'
  | 'lsmMountContext';

/** What no restore looks at. @inline */
type OfDump =
  | 'leaveRunning'
  | 'freezeCgroup'
  | 'parentImg'
  | 'preDumpMode'
  | 'pidfdStoreSk'
  | 'ghostLimit'
  | 'forceIrmap'
  | 'irmapScanPaths'
  | 'tcpSkipInFlight'
  | 'cgroupDumpController';

/** What a caller may add to a dump. Without `lazyPages`: its images are to hold the memory. */
export type CriuDumpOptions = Omit<CriuOptions, OfRestore | 'lazyPages'>;
/** What a caller may add to a restore. */
export type CriuRestoreOptions = Omit<CriuOptions, OfDump>;

interface ImagesDir {
  /** The images' directory: a path, or a descriptor of ours. It must exist. Since 0.8. */
  imagesDir: string | number;
}

/** A request on images, of whatever kind. */
export interface CriuRequestOptions extends CriuOptions, ImagesDir {}

/** A dump's request. */
export interface CriuDumpRequest extends CriuDumpOptions, ImagesDir {
  /** The root of the tree. */
  pid: number;
  /** Leave the memory behind and serve it to a restore: see `pageServer`. */
  lazyPages?: boolean;
}

/** A restore's request. */
export interface CriuRestoreRequest extends CriuRestoreOptions, ImagesDir {}

export type RawOption = boolean | number | bigint | string | Uint8Array;

export type CpuCap = 'none' | 'fpu' | 'cpu' | 'ins' | 'all';

/**
 * A dump or pre-dump connects to it, and needs `address` or `fd`; a page server, or a dump with `lazyPages`, listens
 * there.
 */
export interface PageServer {
  /**
   * To connect to: an IP address, or a name that can be resolved: CRIU (4.3 too) crashes over another. To listen at: an
   * IP address, by default every one of this machine. With `lazyPages` it needs CRIU 4.3: an older one listens at every
   * address whatever is said here, so that it is refused with CRIU_OPTION_UNSUPPORTED.
   */
  address?: string;
  /** 0 to 65535. To listen at 0, the default: one that the kernel chooses. */
  port?: number;
  /**
   * A connected socket of ours, in place of `address` and `port`; it must be in the client's `fds`. It is made
   * blocking, as CRIU needs it: nobody here is to read or write it from then on. A `net.Socket` reads as soon as it is
   * connected, unless it was paused before that (`pause()` after `connect()`, and a server's `pauseOnConnect`): it
   * would take CRIU's answers, and the event loop would wait for more. Not with `lazyPages`: no CRIU takes it. With
   * `tls` since 4.3: a dump of an older one crashes, so that both together are refused with CRIU_OPTION_UNSUPPORTED.
   */
  fd?: number;
}

export interface InheritFd {
  /** What the dump had: "pipe:[123]", "socket:[123]", "tty[...]", "/memfd:name", or a path without its first slash. */
  key: string;
  fd: number;
}

export interface JoinNamespace {
  /** "net", "mnt", "uts", "ipc", "time" or "user". */
  ns: string;
  /** A pid, or the path of a namespace file. */
  nsFile: string;
  extraOpt?: string;
}

export interface CgroupRoot {
  /** Absent: every controller that is not named. */
  controller?: string;
  path: string;
}
