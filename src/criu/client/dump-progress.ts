import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { whenAborted } from '../../when-aborted.js';

/** How far a dump is: an estimate. */
export interface DumpProgress {
  /** Memory written into `imagesDir` so far, in bytes. */
  writtenBytes: number;
  /**
   * What it will be in the end, about: the tree's anonymous and shared memory as the dump began. Less comes when CRIU
   * has parent images, leaves out zero pages, or compresses.
   */
  expectedBytes: number;
}

export interface DumpProgressOptions {
  pid: number;
  imagesDir: string;
  onProgress: (progress: DumpProgress) => void;
  /** The caller's: cancels the work. */
  signal: AbortSignal | undefined;
}

/** A short dump is never looked at, and costs nothing; of a long one the bar of a terminal shows no more. */
const everyMs = 100;

/**
 * Does the work, and tells meanwhile how far it is. CRIU's protocol does not say; its images grow as it writes. They
 * are looked at by the thread pool, so that a file system that is busy with CRIU cannot hold up the event loop, and
 * CRIU's notifications with it; nothing waits for the last look.
 * @param work Is cancelled by its signal when `onProgress` throws.
 * @throws what `onProgress` threw, when that ended the work; else what the work throws
 */
export async function withDumpProgress<T>(
  { pid, imagesDir, onProgress, signal }: DumpProgressOptions,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const cancel = new AbortController();
  const forget = whenAborted(signal, () => cancel.abort(signal?.reason));
  let failure: { error: unknown } | undefined;
  const tell = (progress: DumpProgress): void => {
    if (stop.signal.aborted) return;
    try {
      onProgress(progress);
    } catch (error) {
      failure = { error };
      cancel.abort(error);
      stop.abort();
    }
  };
  watch(pid, imagesDir, tell, stop.signal).catch(() => undefined); // it ends by being stopped; an estimate is no reason to fail
  try {
    return await work(cancel.signal);
  } catch (error) {
    throw failure === undefined ? error : failure.error;
  } finally {
    forget();
    stop.abort();
  }
}

async function watch(
  pid: number,
  imagesDir: string,
  tell: (progress: DumpProgress) => void,
  signal: AbortSignal,
): Promise<void> {
  const [before, memoryBytes] = await Promise.all([pageImages(imagesDir), memoryOfTree(pid)]);
  for (;;) {
    await sleep(everyMs, undefined, { signal, ref: false });
    let writtenBytes = 0;
    for (const [stamp, bytes] of await pageImages(imagesDir)) if (!before.has(stamp)) writtenBytes += bytes;
    tell({ writtenBytes, expectedBytes: Math.max(memoryBytes, writtenBytes) });
  }
}

/** The images that hold memory, each by what tells it from one of an earlier dump. */
async function pageImages(dir: string): Promise<Map<string, number>> {
  const images = new Map<string, number>();
  for (const name of await readdir(dir)) {
    if (!name.startsWith('pages-')) continue;
    const { mtimeMs, size } = await stat(join(dir, name));
    images.set(`${name} ${mtimeMs}`, size);
  }
  return images;
}

/** proc(5), /proc/PID/status: what a task maps of files that are not its own is not dumped. */
async function memoryOfTree(pid: number): Promise<number> {
  const tree = [pid];
  let kib = 0;
  for (const member of tree) {
    try {
      const status = await readFile(`/proc/${member}/status`, 'latin1');
      for (const [, amount] of status.matchAll(/^Rss(?:Anon|Shmem):\s+(\d+) kB/gm)) kib += Number(amount);
      for (const tid of await readdir(`/proc/${member}/task`)) {
        const children = await readFile(`/proc/${member}/task/${tid}/children`, 'latin1');
        tree.push(...children.split(' ').filter(Boolean).map(Number));
      }
    } catch {
      // it ended
    }
  }
  return kib * 1024;
}
