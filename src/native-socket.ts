/** Types of native/socket.c and native/poll.c. */
export interface SocketNative {
  /** `socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)`: [ours, theirs]; ours is also non-blocking, theirs blocks. */
  socketpairSeqpacket(): [ours: number, theirs: number];
  /** A socket of the same kind, non-blocking, connected to the one at `path`; EAGAIN when its queue of connections is full. */
  connectSeqpacket(path: string): number;
  /** `sendmsg(MSG_NOSIGNAL | MSG_DONTWAIT)`, fds as SCM_RIGHTS. False when it would block. */
  sendmsg(fd: number, data: Uint8Array, fds: readonly number[]): boolean;
  /**
   * One whole packet: its length is asked for first (MSG_PEEK | MSG_TRUNC), so none is ever cut.
   * `undefined` when none waits; an empty `data` at end of file. Received fds are close-on-exec and belong to the caller.
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
