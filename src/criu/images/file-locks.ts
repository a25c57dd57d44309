import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { file_lock_entry } from '../generated/criu.js';
import { imageEntries, toNumber } from './image-file.js';

const FILE_LOCKS_MAGIC = 0x54323616;
// criu/include/file-lock.h
const kinds = { 1: 'posix', 2: 'flock', 4: 'ofd', 8: 'lease' } as const;

/** A lock that a process of the dump held on a file. */
export interface DumpedLock {
  kind: (typeof kinds)[keyof typeof kinds];
  /** The process, with the id of its own pid namespace, and the descriptor that it has the file open with. */
  pid: number;
  fd: number;
  /** F_RDLCK (0) or F_WRLCK (1); of a lease also whether it is being broken. */
  type: number;
  /** The range, in bytes. A length of 0 reaches to the end, wherever that is. */
  start: number;
  length: number;
}

/**
 * Reads `filelocks.img`; a dump without locks has none.
 * @throws CriuError CRIU_IMAGE
 */
export async function readDumpedLocks(imagesDir: string): Promise<DumpedLock[]> {
  const path = join(imagesDir, 'filelocks.img');
  const locks: DumpedLock[] = [];
  if (!existsSync(path)) return locks;
  for await (const lock of imageEntries(path, FILE_LOCKS_MAGIC, decodeLock)) locks.push(lock);
  return locks;
}

function decodeLock(data: Uint8Array): DumpedLock {
  const { flag, type, pid, fd, start, len } = file_lock_entry.decode(data);
  return { kind: kinds[flag as keyof typeof kinds], pid, fd, type, start: toNumber(start), length: toNumber(len) };
}
