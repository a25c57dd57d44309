import { readFileSync, statfsSync, statSync } from 'node:fs';
import { descriptorsOf } from '../window/files-in-use.js';
import { isTmpfs, ownTmpfsBytes } from './tmpfs.js';

const SHARED_MEMORY = '/dev/shm';
const MIB = 1 << 20;

/**
 * Where CRIU writes its images when the caller has not said it: in memory, when they fit there with ease, so that the
 * frozen window does not wait for a disk that is still busy with the files' first copy. Else `onDisk`.
 *
 * The tree can grow until it is dumped, and what is in tmpfs counts as memory of this process's cgroup: hence twice
 * what is needed must be free in the file system, and four times as much as memory.
 * @param neededBytes As `imagesBytes` reckons.
 */
export function placeForImages(neededBytes: number, onDisk: string): string {
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

/**
 * About what the images will take, in bytes: the memory that the tree has in use, the deleted files that it has open,
 * and what is in its own tmpfs mounts.
 */
export function imagesBytes(pids: readonly number[]): number {
  return residentBytes(pids) + deletedBytes(pids) + ownTmpfsBytes(pids);
}

/** CRIU puts them into the images whole, up to `ghostLimit` each. */
export function deletedBytes(pids: readonly number[]): number {
  const files = new Map<string, number>();
  for (const link of descriptorsOf(pids)) {
    try {
      const stat = statSync(link);
      if (stat.isFile() && stat.nlink === 0) files.set(`${stat.dev}:${stat.ino}`, stat.blocks * 512);
    } catch {
      // it was closed
    }
  }
  return [...files.values()].reduce((sum, bytes) => sum + bytes, 0);
}

function residentBytes(pids: readonly number[]): number {
  let bytes = 0;
  for (const pid of pids) {
    try {
      const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
      bytes += Number(kib ?? 0) * 1024;
    } catch {
      // it ended
    }
  }
  return bytes;
}
