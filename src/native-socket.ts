/** Types of native/addon/owned-fds.c, native/addon/socket.c and native/addon/poll.c. */
export interface SocketNative {
  /**
   * Closes a descriptor. Those that these functions make, but for streams and what a packet brings, are closed with the
   * thread at the latest, and must be closed by this: a worker that is terminated runs no JavaScript any more.
   */
  close(fd: number): void;
  /** Makes one that somebody else has opened one of those. */
  hold(fd: number): void;
  /** `socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)`: [ours, theirs]; ours is also non-blocking, theirs blocks. */
  socketpairSeqpacket(): [ours: number, theirs: number];
  /** The same with SOCK_STREAM. */
  socketpairStream(): [ours: number, theirs: number];
  /**
   * A SOCK_SEQPACKET socket, non-blocking, connected to the one at `path`; EAGAIN when its queue of connections is
   * full.
   */
  connectSeqpacket(path: string): number;
  /** The same with SOCK_STREAM. */
  connectStream(path: string): number;
  /** `fcntl(F_SETFL)` without O_NONBLOCK: for all who share the open file. */
  setBlocking(fd: number): void;
  /** `sendmsg(MSG_NOSIGNAL | MSG_DONTWAIT)`, fds as SCM_RIGHTS. False when it would block. */
  sendmsg(fd: number, data: Uint8Array, fds: readonly number[]): boolean;
  /**
   * One whole packet: its length is asked for first (MSG_PEEK | MSG_TRUNC), so none is ever cut.
   * `undefined` when none waits; an empty `data` at end of file. Received fds are close-on-exec and belong to the
   * caller.
   */
  recvmsg(fd: number, maxBytes: number): { data: Buffer; fds: number[] } | undefined;
  /**
   * A descriptor watched on libuv's own loop (uv_poll, level-triggered), through a duplicate that `close()` closes.
   * `priority` is POLLPRI: what kernfs raises when cgroup.events changes, again and again until the file is read anew.
   * `onEvent` gets 0, or a negative errno after which no event follows (EBADF: the poll itself saw POLLERR).
   */
  Poll: new (fd: number, events: 'readable' | 'writable' | 'priority', onEvent: (errno: number) => void) => PollHandle;
}

export interface PollHandle {
  /** Stops watching at once: no event after it. The descriptor stays the caller's. Safe to call twice. */
  close(): void;
  ref(): void;
  unref(): void;
}

export type SpawnArguments = [
  path: string,
  args: readonly string[],
  env: readonly string[] | undefined,
  fds: readonly number[],
  cwd: string | undefined,
  sharesSession?: boolean,
  opensTerminal?: boolean,
  umask?: number,
];

/** Types of native/addon/spawn.c. */
export interface SpawnNative {
  /**
   * Starts a program in a session of its own, with default signal dispositions and an empty mask; the caller waits for
   * the exec. Descriptor i of the child is a duplicate of `fds[i]`; -1 is /dev/null. `path` is not searched
   * for on PATH. The environment's entries are "NAME=value"; undefined is this process's own (not a worker thread's).
   * Without a cwd, ours. `sharesSession`: our session, and a process group of its own in it. `opensTerminal`:
   * descriptor 0 is opened anew for reading and writing, which makes it the controlling terminal of a new session, if
   * it is of no other. `umask`: the child's; default ours. Throws what exec said (syscall "spawn"), or pidfd_open
   * (ENOSYS before Linux 5.3): then nothing runs.
   * @returns the pid, and a pidfd that belongs to the caller: readable once the process has ended
   */
  spawn(...program: SpawnArguments): [pid: number, pidfd: number];
  /** The same in a thread of the pool. The descriptors may be closed as soon as it has returned its promise. */
  spawnInThread(...program: SpawnArguments): Promise<[pid: number, pidfd: number]>;
  /** `pidfd_open(pid, 0)`; the descriptor is the caller's. */
  pidfdOpen(pid: number): number;
  /**
   * `waitid(P_PIDFD, WEXITED | WNOHANG)`: the exit code, or minus the signal that ended it; undefined while it runs.
   * ECHILD when somebody else has reaped it.
   */
  reap(pidfd: number): number | undefined;
  /** `ioctl(PIDFD_GET_INFO)`: the wait status of a process that has been reaped, of whoever's child. Linux 6.15. */
  waitStatus(pidfd: number): number | undefined;
  /** `pipe2(O_CLOEXEC)`: [read end, write end]; the read end is also non-blocking, the write end blocks. */
  pipe(): [read: number, write: number];
  /** `pipe2(O_CLOEXEC)`, both ends blocking, and the caller's: the thread's end does not close them. */
  openPipe(): [read: number, write: number];
  /** The session whose controlling terminal it is. ENOTTY unless it is ours, but for a terminal's master. */
  tcgetsid(fd: number): number;
}
