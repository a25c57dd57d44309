import { without, type OptionNames } from '../bad-option.js';
import { seriesName } from '../checkpoint/series/archive-name.js';
import { SERIES_OPTIONS } from '../checkpoint/series/checkpoint-every.js';
import { checkSeriesOptions, runSeries, type SeriesEvent, type SeriesOptions } from '../checkpoint/series/series.js';
import {
  checkpointContainer,
  CONTAINER_CHECKPOINT_OPTIONS,
  type ContainerCheckpointOptions,
  type ContainerCheckpointReport,
} from './checkpoint-container.js';
import { refuseUnknown } from './option-names.js';
import { findContainer } from './runtimes/find-container.js';

/** What `checkpointContainer()` takes, and when to call it; `stop` is for the last checkpoint alone. */
export type ContainerCheckpointEveryOptions = Omit<ContainerCheckpointOptions, 'output' | 'overwrite'> & SeriesOptions;

const OPTIONS: OptionNames<ContainerCheckpointEveryOptions> = {
  ...without(CONTAINER_CHECKPOINT_OPTIONS, ['output', 'overwrite'] as const),
  ...SERIES_OPTIONS,
};

/**
 * Checkpoints a container again and again, as `checkpointEvery()` does a process tree, until the container ends: one
 * that is started again is another.
 * @throws from the iteration: ContainerError docs/errors.md says when each code comes; and what checkpointEvery throws
 */
export async function* checkpointContainerEvery(
  given: ContainerCheckpointEveryOptions,
): AsyncGenerator<SeriesEvent<ContainerCheckpointReport>, void, void> {
  refuseUnknown(given, OPTIONS);
  const { outputDir, everyMs, keep, finish, stop, ...options } = given;
  const settings = checkSeriesOptions({ outputDir, everyMs, keep, finish });
  const { runc, crun, podman, stateRoot, bundle, podmanOptions, compress, signal } = options;
  const { runtime, name, pid } = await findContainer({ runc, crun, podman, stateRoot, bundle, podmanOptions });
  yield* runSeries({
    ...{ ...settings, pid, compress, signal },
    series: seriesName(runtime, name),
    take: (output, isLast) =>
      checkpointContainer({ ...options, output, ...(isLast && stop !== undefined ? { stop } : {}) }),
  });
}
