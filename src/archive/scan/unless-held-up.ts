import { native } from '../../native.js';
import type { NativeTree } from '../../native-files.js';
import { whenAborted } from '../../when-aborted.js';

/** How long a thread has to notice that its work is of no use any more: it looks between two files, or 16 MiB. */
const GRACE_MS = 200;

/**
 * Settles as the work on the tree's files does. Once the signal is aborted it rejects with its reason, soon: at once
 * where the thread notices, else after a moment without it. A thread that is in a call to a file system that does not
 * answer (FUSE, NFS) cannot be taken back; it is left there, with descriptors of its own, and holds neither the event
 * loop nor the end of the process.
 */
export function unlessHeldUp<T>(tree: NativeTree, work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const forget = whenAborted(signal, () => {
      native().treeCancel(tree);
      timer = setTimeout(() => {
        native().treeAbandon(tree);
        reject(signal.reason as Error);
      }, GRACE_MS);
    });
    work
      .then(resolve, (error: unknown) => reject(signal.aborted ? (signal.reason as Error) : (error as Error)))
      .finally(() => {
        clearTimeout(timer);
        forget();
      });
  });
}
