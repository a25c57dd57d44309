import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ArchiveError, readMemberRange, type Member } from '../../archive/index.js';
import { readDumpedTask, readOpenFiles, readPstree, walkPagemap, type DumpedMapping } from '../../criu/index.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { sharedIdOf } from './mapping-sizes.js';
import type { DumpedImagesOf } from './open-images.js';
import { PAGE_BYTES } from './page.js';

/** Bytes beside each other in a process's memory, and where they are. */
export interface MemoryRun {
  /** Of the first byte. */
  address: number;
  bytes: number;
  /** Where the archive has them; undefined where it does not: a parent image does, or they are compressed. */
  at: { member: Member; offset: number } | undefined;
}

/** What was dumped of a process's memory, by its addresses, and its mappings. */
export interface ProcessMemory {
  mappings: readonly DumpedMapping[];
  /** Nothing of the memory itself is read. */
  runs: () => AsyncGenerator<MemoryRun, void>;
}

/**
 * @throws CheckpointError NOT_IN_CHECKPOINT for a pid that is not in the dump, or had no memory; CriuError CRIU_IMAGE
 */
export async function memoryOf(images: DumpedImagesOf, pid: number): Promise<ProcessMemory> {
  const { archive, dir } = images;
  const pids = (await readPstree(dir)).map((process) => process.pid);
  const wrong = (why: string) => new CheckpointError('NOT_IN_CHECKPOINT', { archivePath: archive.path, pid, why });
  if (!pids.includes(pid))
    throw wrong(`its processes are ${pids.slice(0, 20).join(', ')}${pids.length > 20 ? ', …' : ''}`);
  const { memory } = await readDumpedTask(dir, pid);
  if (memory === undefined) throw wrong('it had ended, and has no memory any more');
  const files = await readOpenFiles(dir);
  const shared = memory.mappings.flatMap((mapping) => {
    const sharedId = sharedIdOf(mapping, files);
    return sharedId === undefined || !existsSync(join(dir, `pagemap-shmem-${sharedId}.img`))
      ? []
      : [{ mapping, sharedId }];
  });
  return { mappings: memory.mappings, runs: () => runsOf(images, pid, shared) };
}

async function* runsOf(
  images: DumpedImagesOf,
  pid: number,
  shared: readonly { mapping: DumpedMapping; sharedId: number }[],
): AsyncGenerator<MemoryRun, void> {
  let next = 0;
  async function* sharedBefore(address: number): AsyncGenerator<MemoryRun, void> {
    for (let one = shared[next]; one !== undefined && one.mapping.start < address; one = shared[++next])
      yield* sharedRuns(images, one.mapping, one.sharedId);
  }
  for await (const { address, pages, before, file } of walkPagemap(images.dir, pid)) {
    yield* sharedBefore(address);
    yield { address, bytes: pages * PAGE_BYTES, at: placeOf(images, file, before) };
  }
  yield* sharedBefore(Infinity);
}

/** Of shared memory, what a process has mapped of it. */
async function* sharedRuns(
  images: DumpedImagesOf,
  { start, end, offset }: DumpedMapping,
  sharedId: number,
): AsyncGenerator<MemoryRun, void> {
  for await (const { address, pages, before, file } of walkPagemap(images.dir, { sharedId })) {
    const from = Math.max(address, offset);
    const to = Math.min(address + pages * PAGE_BYTES, offset + end - start);
    if (from >= to) continue;
    yield { address: start + from - offset, bytes: to - from, at: placeOf(images, file, before, from - address) };
  }
}

function placeOf({ pages }: DumpedImagesOf, file: string, before: number | undefined, skipped = 0): MemoryRun['at'] {
  const member = before === undefined ? undefined : pages.get(file);
  return member === undefined || before === undefined ? undefined : { member, offset: before * PAGE_BYTES + skipped };
}

/**
 * The bytes of a run, so many at a time.
 * @throws ArchiveError ARCHIVE_DAMAGED where the file of pages is shorter than the pagemap says
 */
export async function* bytesOf(
  { archive, signal }: DumpedImagesOf,
  { bytes, at }: MemoryRun,
  chunkBytes: number,
): AsyncGenerator<Buffer, void> {
  if (at === undefined) return;
  const { member, offset } = at;
  for (let done = 0; done < bytes;) {
    signal?.throwIfAborted();
    const length = Math.min(chunkBytes, bytes - done);
    const chunk = await readMemberRange(archive, member, offset + done, length);
    if (chunk.length < length)
      throw new ArchiveError('ARCHIVE_DAMAGED', {
        archivePath: archive.path,
        member: member.entry.name.toString('latin1'),
        what: `${member.entry.size} bytes, where the pagemap speaks of ${offset + bytes}`,
      });
    yield chunk;
    done += chunk.length;
  }
}
