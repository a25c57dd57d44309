import { readFile } from 'node:fs/promises';
import { deletedBytes } from '../dump/images-place.js';
import { ownTmpfsBytes } from '../dump/tmpfs.js';
import type { ProcessInfo } from '../../proc/task.js';

/** Sizes in bytes. */
export interface PlannedMemory {
  /** What the tree has in memory, with what its processes share counted once for each. */
  residentBytes: number;
  /**
   * About what CRIU would write of it: private memory, in swap too, and shared memory. Mapped files are not written.
   */
  dumpedBytes: number;
  /** Deleted files that are still open: they go into the images too. */
  deletedFilesBytes: number;
  /** What is in the tree's own tmpfs mounts: it goes into the images too. */
  tmpfsBytes: number;
}

export interface PlannedProcess {
  pid: number;
  ppid: number;
  name: string;
  threads: number;
  residentBytes: number;
}

/** Both from /proc, beside the event loop: the kernel walks a process's whole memory for `smaps_rollup`. */
export async function lookAtMemory(
  tree: readonly ProcessInfo[],
): Promise<{ processes: PlannedProcess[]; memory: PlannedMemory }> {
  const processes: PlannedProcess[] = [];
  let dumpedBytes = 0;
  for (const { pid, ppid, name, threadCount } of tree) {
    const status = await readOrNothing(`/proc/${pid}/status`);
    const residentBytes = kibibytes(status, 'VmRSS') * 1024;
    processes.push({ pid, ppid, name, threads: threadCount, residentBytes });
    dumpedBytes += dumpedOf(await readOrNothing(`/proc/${pid}/smaps_rollup`)) ?? residentBytes;
  }
  const residentBytes = processes.reduce((sum, process) => sum + process.residentBytes, 0);
  const pids = tree.map(({ pid }) => pid);
  const [deletedFilesBytes, tmpfsBytes] = [deletedBytes(pids), ownTmpfsBytes(pids)];
  return { processes, memory: { residentBytes, dumpedBytes, deletedFilesBytes, tmpfsBytes } };
}

/** Source: Documentation/filesystems/proc.rst, /proc/PID/smaps_rollup; `Pss_Shmem` since Linux 5.4. */
function dumpedOf(rollup: string): number | undefined {
  if (rollup === '') return undefined;
  return (kibibytes(rollup, 'Anonymous') + kibibytes(rollup, 'Swap') + kibibytes(rollup, 'Pss_Shmem')) * 1024;
}

function kibibytes(text: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
}

/** '' when the process has ended, or the kernel has no such file. */
async function readOrNothing(path: string): Promise<string> {
  return readFile(path, 'latin1').catch(() => '');
}
