import { availableParallelism, loadavg } from 'node:os';

/** How long the tree would stand still, in milliseconds: a prediction, not a promise. */
export interface PredictedWindow {
  ms: number;
  /** Half and twice that: so far apart the same machine is on two days. */
  fromMs: number;
  toMs: number;
  /**
   * What CRIU would take for processes and memory; and the files, which are copied meanwhile. The longer one counts.
   */
  memoryMs: number;
  filesMs: number;
  /** What the prediction rests on, in words. */
  basis: string;
}

export interface WindowLoad {
  processes: number;
  /** What CRIU would write. */
  dumpedBytes: number;
  /** What would be copied while the tree is frozen. */
  files: { entries: number; bytes: number };
  /** How long looking for changed files would take. */
  lookMs: number;
  observeMs: number;
}

const MIB = 1 << 20;

// Medians of docs/bench.md, on two cores of 2026: 10.6, 41.9 and 309 ms for one process of 4, 64 and 512 MB, and 66 ms
// where 100 of 1,000 files of 1 MiB have changed. Each further process costs CRIU about as much as the first.
const FIXED_MS = 4;
const PROCESS_MS = 6;
const MEMORY_MS_PER_MIB = 0.6;
const FILES_MS_PER_MIB = 0.55;
const FILE_MS = 0.02;

/** @param load How many tasks want each processor; default: the load average of the last minute. */
export function predictWindow(
  { processes, dumpedBytes, files, lookMs, observeMs }: WindowLoad,
  load = (loadavg()[0] ?? 0) / availableParallelism(),
): PredictedWindow {
  const slower = Math.max(1, load);
  const memoryMs = slower * (PROCESS_MS * processes + (MEMORY_MS_PER_MIB * dumpedBytes) / MIB);
  // The look has been measured here, under this load.
  const filesMs = lookMs + slower * (FILE_MS * files.entries + (FILES_MS_PER_MIB * files.bytes) / MIB);
  const ms = slower * FIXED_MS + Math.max(memoryMs, filesMs);
  const busy = slower > 1 ? ` This machine is busy: everything is taken to be ${slower.toFixed(1)} times as slow.` : '';
  return {
    ms,
    fromMs: ms / 2,
    toMs: ms * 2,
    memoryMs,
    filesMs,
    basis:
      `From ${processes === 1 ? 'one process and its' : `${processes} processes and their`} memory, at rates that were measured ` +
      'on a machine of two cores (docs/bench.md), and from the files that changed within ' +
      `${observeMs} ms of watching; nothing was tried here.${busy}`,
  };
}
