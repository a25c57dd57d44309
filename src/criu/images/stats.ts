import { join } from 'node:path';
import { stats_entry } from '../generated/criu.js';
import { CriuError } from '../errors/criu-error.js';
import { present } from '../rpc/messages.js';
import { imageEntry, toNumber } from './image-file.js';
import { filled } from '../rpc/option-values.js';

const STATS_MAGIC = 0x57093306;

/** What CRIU measured of a dump. Times in microseconds, memory in pages. */
export interface DumpStats {
  /** From the first task stopped to the last. */
  freezingTimeUs: number;
  /** From then on until the tasks were let go. */
  frozenTimeUs: number;
  /** Of it: taking memory over into pipes. */
  memdumpTimeUs: number;
  /** Of it: writing the images. */
  memwriteTimeUs: number;
  pagesScanned: number;
  /** Pages that the parent images have. */
  pagesSkippedParent: number;
  pagesWritten: number;
  pagesLazy: number;
  /** Shared memory, counted apart. */
  shmemPagesScanned?: number;
  shmemPagesSkippedParent?: number;
  shmemPagesWritten?: number;
}

export interface RestoreStats {
  forkingTimeUs: number;
  restoreTimeUs: number;
  pagesCompared: number;
  pagesSkippedCow: number;
  pagesRestored?: number;
}

/**
 * Reads `stats-dump`, which CRIU writes into the work directory.
 * @throws CriuError CRIU_IMAGE
 */
export async function readDumpStats(workDir: string): Promise<DumpStats> {
  filled('workDir', workDir);
  const path = join(workDir, 'stats-dump');
  const { dump } = await imageEntry(path, STATS_MAGIC, (data) => stats_entry.decode(data));
  if (dump == null) throw new CriuError('CRIU_IMAGE', { path, reason: 'no statistics of a dump' });
  return {
    freezingTimeUs: dump.freezingTime,
    frozenTimeUs: dump.frozenTime,
    memdumpTimeUs: dump.memdumpTime,
    memwriteTimeUs: dump.memwriteTime,
    pagesScanned: toNumber(dump.pagesScanned),
    pagesSkippedParent: toNumber(dump.pagesSkippedParent),
    pagesWritten: toNumber(dump.pagesWritten),
    pagesLazy: toNumber(dump.pagesLazy),
    ...present({
      shmemPagesScanned: optional(dump.shpagesScanned),
      shmemPagesSkippedParent: optional(dump.shpagesSkippedParent),
      shmemPagesWritten: optional(dump.shpagesWritten),
    }),
  };
}

/**
 * Reads `stats-restore` of the work directory.
 * @throws CriuError CRIU_IMAGE
 */
export async function readRestoreStats(workDir: string): Promise<RestoreStats> {
  filled('workDir', workDir);
  const path = join(workDir, 'stats-restore');
  const { restore } = await imageEntry(path, STATS_MAGIC, (data) => stats_entry.decode(data));
  if (restore == null) throw new CriuError('CRIU_IMAGE', { path, reason: 'no statistics of a restore' });
  return {
    forkingTimeUs: restore.forkingTime,
    restoreTimeUs: restore.restoreTime,
    pagesCompared: toNumber(restore.pagesCompared),
    pagesSkippedCow: toNumber(restore.pagesSkippedCow),
    ...present({ pagesRestored: optional(restore.pagesRestored) }),
  };
}

function optional(value: Parameters<typeof toNumber>[0] | null | undefined): number | undefined {
  return value == null ? undefined : toNumber(value);
}
