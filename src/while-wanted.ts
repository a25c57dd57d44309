import { whenAborted } from './when-aborted.js';

const KEEP_ALIVE_MS = 2 ** 30;

/**
 * Settles as work does that does not keep the process alive by itself, a thread's or an unreferenced watcher's: whoever
 * waits for it does. Once the signal is aborted it rejects with its reason, and the work is left behind; `late` gets what
 * that one still resolves with.
 */
export function whileWanted<T>(
  work: Promise<T>,
  signal: AbortSignal | undefined,
  late: (value: T) => void = () => undefined,
): Promise<T> {
  return new Promise((resolve, reject) => {
    let isWanted = true;
    const waiting = setInterval(() => undefined, KEEP_ALIVE_MS);
    const forget = whenAborted(signal, () => {
      isWanted = false;
      clearInterval(waiting);
      reject(signal?.reason as Error);
    });
    work
      .then((value) => (isWanted ? resolve(value) : late(value)), reject)
      .finally(() => {
        clearInterval(waiting);
        forget();
      });
  });
}
