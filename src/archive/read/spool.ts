/** What cannot be read at any offset becomes a file that can be, and that nobody else can open: one without a name. */
import { constants } from 'node:fs';
import { open, statfs, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { openNameless } from '../file/unnamed-file.js';
import { writeWhole } from '../file/write-whole.js';
import { ArchiveError } from '../format/archive-error.js';
import type { InOrder } from './begin.js';
import { membersOfChunks } from './chunked-members.js';
import { unpack } from './unpack.js';

export interface Spooling {
  /** How errors name the archive. */
  path: string;
  tmpDir: string;
  maxUnpackedBytes: number | undefined;
  signal: AbortSignal | undefined;
}

/** Unpacks on the way. @throws ArchiveError, as openArchive; the signal's reason */
export async function spool(spooling: Spooling, { chunks, compression }: InOrder): Promise<FileHandle> {
  const { path, tmpDir, signal } = spooling;
  const isPacked = compression !== 'none';
  let to: FileHandle;
  let mostBytes: number;
  try {
    mostBytes = spooling.maxUnpackedBytes ?? (await spareBytes(tmpDir));
    to = await openUnnamed(tmpDir);
  } catch (cause) {
    const what = isPacked
      ? `it is compressed, and cannot be unpacked in ${tmpDir}`
      : `it is a stream, and cannot be kept in ${tmpDir}`;
    throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, what, cause });
  }
  try {
    const unpacked = unpack({ path, mostBytes, signal }, chunks, compression);
    // By its headers, what is no archive is refused at its first block, and not when terabytes of it are on the disk.
    const reading = { archivePath: path, mostBytes, mayLackEnd: true };
    const members = membersOfChunks(kept(to, unpacked, signal), reading);
    for await (const member of members) void member;
    return to;
  } catch (cause) {
    await to.close().catch(() => undefined);
    signal?.throwIfAborted();
    if (cause instanceof ArchiveError) throw cause;
    const what = `while it was ${isPacked ? 'unpacked' : 'written to a file'} in ${tmpDir}`;
    throw new ArchiveError('ARCHIVE_UNREADABLE', { archivePath: path, what, cause });
  }
}

/** What a file system can spare: a full one would hurt others than us. */
async function spareBytes(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return Math.floor(bavail * bsize * 0.9);
}

/** Each chunk is in the file before it is handed on. */
async function* kept(
  to: FileHandle,
  chunks: AsyncGenerator<Buffer, void, void>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, void> {
  let position = 0;
  for await (const chunk of chunks) {
    signal?.throwIfAborted();
    await writeWhole(to, chunk, position);
    position += chunk.length;
    yield chunk;
  }
}

/** A file without a name, also where the file system has none: then one that has lost its name. */
async function openUnnamed(dir: string): Promise<FileHandle> {
  const nameless = await openNameless(dir);
  if (nameless !== undefined) return nameless;
  const path = join(dir, `.stillframe-${randomUUID()}`);
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  await unlink(path);
  return handle;
}
