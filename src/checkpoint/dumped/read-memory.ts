import type { ArchiveSource } from '../../archive/index.js';
import type { OptionNames } from '../../bad-option.js';
import { bad, requirePid } from '../base/check-option.js';
import { refuseUnknown } from '../option-names.js';
import { bytesOf, memoryOf, type MemoryRun } from './memory-runs.js';
import { READING_OPTIONS, withImages, type InspectProcessesOptions } from './open-images.js';

export interface ReadMemoryOptions extends InspectProcessesOptions {
  /** Whose memory, by the ids of the dumped pid namespace. */
  pid: number;
  /** Addresses, in bytes: from the first to before `end`. */
  start: number;
  end: number;
  /** Called for each piece, in the order of addresses, and awaited. What it throws ends the reading. */
  onBytes: (piece: MemoryPiece) => Promise<void> | undefined;
}

/** Bytes of a process's memory, or how many are not in the archive. */
export interface MemoryPiece {
  address: number;
  bytes: number;
  /** Undefined where this archive does not have them: nothing is mapped there, or it was not dumped. */
  data: Buffer | undefined;
}

const OPTIONS: OptionNames<ReadMemoryOptions> = {
  ...READING_OPTIONS,
  pid: true,
  start: true,
  end: true,
  onBytes: true,
};

const CHUNK_BYTES = 64 * 1024;

/**
 * Reads a part of one process's dumped memory. What the archive does not have is told of, too, so that the pieces
 * together are the whole range.
 * @throws as `searchMemory`
 */
export async function readMemory(source: ArchiveSource, options: ReadMemoryOptions): Promise<void> {
  refuseUnknown(options, OPTIONS);
  const { pid, start, end, onBytes } = options;
  if (typeof onBytes !== 'function') bad('onBytes', onBytes, 'a function');
  requirePid('pid', pid);
  if (!Number.isSafeInteger(start) || start < 0) bad('start', start, 'an address');
  if (!Number.isSafeInteger(end) || end <= start) bad('end', end, 'an address behind `start`');
  await withImages(source, options, async (images) => {
    const { runs } = await memoryOf(images, pid);
    let at = start;
    const skipTo = async (address: number): Promise<void> => {
      if (address <= at) return;
      await onBytes({ address: at, bytes: address - at, data: undefined });
      at = address;
    };
    for await (const run of runs()) {
      if (run.address >= end) break;
      const part = within(run, at, end);
      if (part === undefined || part.at === undefined) continue;
      await skipTo(part.address);
      for await (const data of bytesOf(images, part, CHUNK_BYTES)) {
        await onBytes({ address: at, bytes: data.length, data });
        at += data.length;
      }
    }
    await skipTo(end);
  });
}

/** What of a run lies between two addresses. */
function within({ address, bytes, at }: MemoryRun, start: number, end: number): MemoryRun | undefined {
  const from = Math.max(address, start);
  const to = Math.min(address + bytes, end);
  if (from >= to) return undefined;
  return {
    address: from,
    bytes: to - from,
    at: at === undefined ? undefined : { member: at.member, offset: at.offset + from - address },
  };
}
