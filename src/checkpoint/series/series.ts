import { FreezerError } from '../../cgroup/index.js';
import type { OutputCompression } from '../../archive/index.js';
import { errnoOf, StillframeError } from '../../errors.js';
import { identify, isRunning } from '../../proc/identity.js';
import { EndWatch } from '../../tree-end.js';
import { pause, whenAborted } from '../../when-aborted.js';
import { bad, count, requirePath } from '../base/check-option.js';
import { ArchiveDirectory } from './archive-directory.js';
import { KeptArchives, type Removal } from './kept-archives.js';

/** When checkpoints are made, and which of them are kept. */
export interface SeriesOptions {
  /**
   * An existing directory for the archives, best one for each target. They are called `NAME-20261130T191745.123Z.tar`
   * (NAME: the program's or the container's, or the process's name and pid), so that names sort by time.
   */
  outputDir: string;
  /**
   * From the beginning of one checkpoint to that of the next, in milliseconds, at most 2^31 - 1 (24 days). The first is
   * made at once. One that takes longer than that is followed by the next at once: there are never two together.
   */
  everyMs: number;
  /**
   * How many whole archives to keep, at least 1. When one more is safe on disk, the oldest whole one is removed;
   * damaged ones never count, and are never removed. Default 3.
   */
  keep?: number | undefined;
  /**
   * When it is aborted, a last checkpoint is made, after the one that may be under way, and the series ends: the
   * machine is going away. With `stop`, this last one ends the tree.
   */
  finish?: AbortSignal | undefined;
}

export type SeriesEvent<Report> =
  | ({ kind: 'checkpoint'; archivePath: string; report: Report } & Removal)
  /** The next one is tried at its time. `isLast`: there is none. */
  | { kind: 'failed'; error: unknown; isLast: boolean }
  /** The root of the tree has ended, and so does the series. `archivePath`: its last checkpoint, if there was one. */
  | { kind: 'ended'; pid: number; archivePath: string | undefined };

export interface SeriesSettings {
  outputDir: string;
  everyMs: number;
  keep: number;
  finish: AbortSignal | undefined;
}

export interface SeriesPlan<Report> extends SeriesSettings {
  /** What the archives' names begin with. */
  series: string;
  /** The root of the tree. */
  pid: number;
  compress: OutputCompression | undefined;
  signal: AbortSignal | undefined;
  /** Makes one checkpoint into this new file. */
  take(output: string, isLast: boolean): Promise<Report>;
}

/** What setTimeout(3) of Node.js can wait for. */
const MOST_MS = 2 ** 31 - 1;

/** @throws CheckpointError BAD_OPTION */
export function checkSeriesOptions({ outputDir, everyMs, keep, finish }: SeriesOptions): SeriesSettings {
  requirePath('outputDir', outputDir);
  if (typeof everyMs !== 'number' || !(everyMs >= 1 && everyMs <= MOST_MS))
    bad('everyMs', everyMs, `a number of milliseconds, from 1 to ${MOST_MS}`);
  if (count('keep', keep, 3) < 1) bad('keep', keep, '1 or more');
  if (finish !== undefined && !(finish instanceof AbortSignal)) bad('finish', finish, 'an AbortSignal');
  return { outputDir, everyMs, keep: count('keep', keep, 3), finish };
}

/**
 * One checkpoint after the other, until the tree ends, `finish` or `signal` is aborted, or nobody asks for more.
 * @throws CheckpointError ARCHIVE_DIR_UNUSABLE; FreezerError NO_SUCH_PROCESS; the signal's reason; what `take` throws
 * for wrong use, and when `signal` is aborted
 */
export async function* runSeries<Report>(plan: SeriesPlan<Report>): AsyncGenerator<SeriesEvent<Report>, void, void> {
  plan.signal?.throwIfAborted();
  using directory = await ArchiveDirectory.open(plan.outputDir);
  const root = identify(plan.pid);
  const watch = watchEnd(plan.pid);
  try {
    yield* eventsOf(plan, directory, watch, () => root !== undefined && isRunning(root));
  } finally {
    watch.close();
  }
}

async function* eventsOf<Report>(
  plan: SeriesPlan<Report>,
  directory: ArchiveDirectory,
  watch: EndWatch,
  isAlive: () => boolean,
): AsyncGenerator<SeriesEvent<Report>, void, void> {
  const { pid, everyMs, finish, signal } = plan;
  const kept = new KeptArchives(directory, plan);
  let archivePath: string | undefined;
  for (let dueMs = performance.now(); ; dueMs = Math.max(dueMs + everyMs, performance.now())) {
    if ((await waitUntil(dueMs, { watch, finish, signal })) === 'ended')
      return yield { kind: 'ended', pid, archivePath };
    const isLast = finish?.aborted === true;
    let event: SeriesEvent<Report>;
    try {
      directory.requireInPlace();
      const name = kept.nextName(plan.compress);
      const path = directory.pathOf(name);
      const report = await plan.take(path, isLast);
      archivePath = path;
      event = { kind: 'checkpoint', archivePath, report, ...(await kept.removeOld(name, signal)) };
    } catch (error) {
      if (signal?.aborted === true || isWrongUse(error)) throw error;
      event = isAlive() ? { kind: 'failed', error, isLast } : { kind: 'ended', pid, archivePath };
    }
    yield event;
    if (isLast || event.kind === 'ended') return;
  }
}

function watchEnd(pid: number): EndWatch {
  try {
    return new EndWatch(pid);
  } catch (error) {
    if (errnoOf(error) === 'ESRCH') throw new FreezerError('NO_SUCH_PROCESS', { pid });
    throw error;
  }
}

/** What is wrong now is wrong the next time. */
function isWrongUse(error: unknown): boolean {
  return error instanceof StillframeError && ['BAD_OPTION', 'NOT_ROOT'].includes(error.code);
}

interface Interruptions {
  watch: EndWatch;
  finish: AbortSignal | undefined;
  signal: AbortSignal | undefined;
}

/** @throws the signal's reason */
async function waitUntil(dueMs: number, { watch, finish, signal }: Interruptions): Promise<'due' | 'ended'> {
  const enough = new AbortController();
  const forget = [finish, signal].map((each) => whenAborted(each, () => enough.abort()));
  const over = watch.ended({ signal: enough.signal }).then(
    () => 'ended' as const,
    () => 'due' as const,
  );
  const due = pause(Math.max(0, dueMs - performance.now()), enough.signal).then(
    () => 'due' as const,
    () => 'due' as const,
  );
  try {
    return await Promise.race([over, due]);
  } finally {
    forget.forEach((each) => each());
    enough.abort();
    signal?.throwIfAborted();
  }
}
