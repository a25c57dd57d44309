import { readProc } from '../../proc/task.js';

/** How often a wait is looked at, and how long it has to have lasted, in milliseconds. */
const POLL_MS = 200;
const UNANSWERED_MS = 1000;

/**
 * Functions of the kernel in which a task waits for a server to answer for a file: fs/fuse/dev.c, net/sunrpc/sched.c (NFS),
 * fs/smb/client/transport.c, net/9p/client.c, Linux v6.12.
 */
const WAITS = /^(?:request_wait_answer|__fuse_\w+|rpc_wait_bit_killable|wait_for_response|p9_client_rpc)$/;

/**
 * Calls back once a process has waited in one call for the same answer of a file system's server for a second. Such a
 * process sees nothing else, not even that nobody wants its work any more.
 * @returns what ends the watch
 */
export function whenUnanswered(pid: number, callback: () => void): () => void {
  let wait: string | undefined;
  let since = 0;
  const timer = setInterval(() => {
    // Which call, with which arguments and stack: another one is another wait.
    const now = WAITS.test(readProc(`${pid}/wchan`) ?? '') ? readProc(`${pid}/syscall`) : undefined;
    if (now === undefined || now !== wait) {
      wait = now;
      since = performance.now();
    } else if (performance.now() - since >= UNANSWERED_MS) {
      clearInterval(timer);
      callback();
    }
  }, POLL_MS);
  return () => clearInterval(timer);
}
