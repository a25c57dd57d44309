/** Descriptors that Node.js itself cannot make or hand over. */
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from './errors.js';
import { native, NativeError } from './native.js';

/** How long a listener may take to accept those before us, where its queue is full. */
const QUEUE_MS = 10_000;

/**
 * A pipe whose ends are close-on-exec, block, and are the caller's to close: for the standard streams of a program that
 * is to be checkpointed (`spawn`'s stdio takes their numbers), and for `inheritFd`. Node.js's own 'pipe' is a pair of
 * sockets, whose other end is outside the tree: CRIU refuses that. To read here, `new net.Socket({ fd: read })`: it
 * makes its end alone non-blocking, and closes it.
 * @throws the errno error of pipe2: EMFILE, ENFILE; NativeError NATIVE_MISSING
 */
export function openPipe(): { read: number; write: number } {
  const [read, write] = native().openPipe();
  return { read, write };
}

/**
 * Connects to a unix socket (SOCK_STREAM), sends one message with the descriptor (SCM_RIGHTS), and closes the
 * connection: what an OCI runtime does with a terminal's master at its `--console-socket`. Resolves when the kernel has
 * the message: the descriptor stays the caller's, and may be closed then.
 * Source: runc, libcontainer/utils/cmsg.go, SendFile; crun, src/libcrun/utils.c, send_fd_to_socket.
 * @param data What the message says, by default "/dev/ptmx", as runc's says the name of what it sends. At least one
 * byte, and
 *   less than 4096, which is runc's limit. crun sends one space.
 * @throws NativeError DESCRIPTOR_NOT_SENT, with the system's error as cause: ENOENT or ECONNREFUSED when nobody listens
 * there,
 *   EAGAIN when the listener has accepted nobody for 10 s, EBADF for the descriptor, EINVAL for the data
 */
export async function sendDescriptor(
  socketPath: string,
  fd: number,
  data: string | Uint8Array = '/dev/ptmx',
): Promise<void> {
  try {
    const bytes = Buffer.from(data);
    if (typeof socketPath !== 'string') throw errnoError('EINVAL', 'a path that is no string, connect');
    // A stream carries descriptors with a byte only, and whoever receives wants both in one piece.
    if (bytes.length === 0 || bytes.length >= 4096) throw errnoError('EINVAL', `${bytes.length} bytes, sendmsg`);
    // In C it would be that of another socket.
    if (socketPath.includes('\0')) throw errnoError('EINVAL', 'a path with a zero byte, connect');
    if (!Number.isInteger(fd)) throw errnoError('EBADF', `descriptor ${String(fd)}, sendmsg`);
    const socket = await connect(socketPath);
    try {
      // The first message of a socket has room.
      native().sendmsg(socket, bytes, [fd]);
    } finally {
      native().close(socket);
    }
  } catch (cause) {
    if (cause instanceof NativeError) throw cause;
    throw new NativeError('DESCRIPTOR_NOT_SENT', { socketPath, fd, cause });
  }
}

function errnoError(code: 'EBADF' | 'EINVAL', what: string): Error {
  return Object.assign(new Error(`${code}: ${what}`), { code, errno: -constants.errno[code] });
}

async function connect(socketPath: string): Promise<number> {
  const end = performance.now() + QUEUE_MS;
  for (;;) {
    try {
      return native().connectStream(socketPath);
    } catch (error) {
      if (errnoOf(error) !== 'EAGAIN' || performance.now() > end) throw error;
      // The kernel tells nobody when there is room in a queue of connections.
      await sleep(10);
    }
  }
}
