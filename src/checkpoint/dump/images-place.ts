import { statfsSync, type StatsFs } from 'node:fs';
import { imagesBytes } from './dump.js';
import { runningPids } from '../base/pids.js';

const SHARED_MEMORY = '/dev/shm';
const MIB = 1 << 20;

/** statfs(2), f_type. */
export function isTmpfs({ type }: StatsFs): boolean {
  return type === 0x0102_1994;
}

/**
 * Where CRIU writes its images when the caller has not said it: in memory, when they fit there with ease, so that the
 * frozen window does not wait for a disk that is still busy with the files' first copy. Else `onDisk`.
 *
 * The tree can grow until it is dumped, and what is in tmpfs counts as memory of this process's cgroup: hence twice the
 * tree's resident memory must be free in the file system, and four times as much as memory.
 */
export function placeForImages(pid: number, onDisk: string): string {
  const neededBytes = imagesBytes(runningPids(pid));
  try {
    const stats = statfsSync(SHARED_MEMORY);
    const fits =
      stats.bavail * stats.bsize >= 2 * neededBytes + 64 * MIB &&
      process.availableMemory() >= 4 * neededBytes + 256 * MIB;
    return isTmpfs(stats) && fits ? SHARED_MEMORY : onDisk;
  } catch {
    return onDisk; // there is none
  }
}
