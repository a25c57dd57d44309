import { readProcess } from '../../proc/task.js';
import { without, type OptionNames } from '../../bad-option.js';
import { requirePid, requireRoot } from '../base/check-option.js';
import { checkpoint } from '../checkpoint.js';
import type { CheckpointReport } from '../events/report.js';
import { CHECKPOINT_OPTIONS, refuseUnknown } from '../option-names.js';
import type { CheckpointOptions } from '../options.js';
import { seriesName } from './archive-name.js';
import { checkSeriesOptions, runSeries, type SeriesEvent, type SeriesOptions } from './series.js';

/** What `checkpoint()` takes, and when to call it; `stop` is for the last checkpoint alone, which `finish` asks for. */
export type CheckpointEveryOptions = Omit<CheckpointOptions, 'output' | 'overwrite'> & SeriesOptions;

export const SERIES_OPTIONS: OptionNames<SeriesOptions> = { outputDir: true, everyMs: true, keep: true, finish: true };

const OPTIONS: OptionNames<CheckpointEveryOptions> = {
  ...without(CHECKPOINT_OPTIONS, ['output', 'overwrite'] as const),
  ...SERIES_OPTIONS,
};

/**
 * Checkpoints a process tree again and again, and keeps the newest archives. Each event is told when it is there to be
 * taken: the next checkpoint begins when that one is asked for, and not before its time.
 *
 * A checkpoint that fails is an event, and the next one is tried at its time. The iteration ends with the tree, with
 * the last checkpoint that `finish` asks for, or when it is left (`break`): no checkpoint is under way then.
 *
 * @throws from the iteration: CheckpointError BAD_OPTION, NOT_ROOT, ARCHIVE_DIR_UNUSABLE; FreezerError NO_SUCH_PROCESS;
 * the reason of `signal`, which cancels a checkpoint that is under way
 */
export async function* checkpointEvery(
  given: CheckpointEveryOptions,
): AsyncGenerator<SeriesEvent<CheckpointReport>, void, void> {
  refuseUnknown(given, OPTIONS);
  const { outputDir, everyMs, keep, finish, stop, ...options } = given;
  const settings = checkSeriesOptions({ outputDir, everyMs, keep, finish });
  const { pid, program, compress, signal } = options;
  requirePid('pid', pid);
  requireRoot('a checkpoint');
  yield* runSeries({
    ...{ ...settings, pid, compress, signal },
    series: program?.name ?? seriesName(readProcess(pid)?.name ?? 'process', pid),
    take: (output, isLast) => checkpoint({ ...options, output, ...(isLast && stop !== undefined ? { stop } : {}) }),
  });
}
