import { availableParallelism } from 'node:os';
import type { OptionNames } from '../../bad-option.js';
import { bad } from '../base/check-option.js';
import type { RestoreReport } from '../events/report.js';
import { refuseUnknown, RESTORE_OPTIONS } from '../option-names.js';
import type { RestoreOptions } from '../options.js';
import { restore } from '../restore/restore.js';

export interface CopiesOptions extends Omit<RestoreOptions, 'archive'> {
  /** A prepared directory, which all copies share, or the path of an archive, which each unpacks for itself. */
  archive: string;
  /** How many. */
  count: number;
}

const COPIES_OPTIONS: OptionNames<CopiesOptions> = { ...RESTORE_OPTIONS, count: true };

/** What became of each copy. */
export interface CopiesReport {
  /** Those that run, in the order in which they came up. */
  copies: RestoreReport[];
  /** Why the others do not: of each nothing is left. */
  failed: unknown[];
}

/**
 * Several copies of one checkpoint at once: `restore({ clone })` of each, as many side by side as there are processors.
 * One that fails does not end the others.
 * @throws CheckpointError BAD_OPTION; the signal's reason, when it is aborted before the first one
 */
export async function restoreCopies(given: CopiesOptions): Promise<CopiesReport> {
  refuseUnknown(given, COPIES_OPTIONS);
  const { count, clone = true, ...options } = given;
  if (!Number.isSafeInteger(count) || count < 1) bad('count', count, 'a whole number above 0');
  if (typeof options.archive !== 'string') bad('archive', options.archive, 'a path: a stream can be read only once');
  if (clone === false) bad('clone', clone, 'true, or an object of options');
  options.signal?.throwIfAborted();
  const report: CopiesReport = { copies: [], failed: [] };
  let left = count;
  const worker = async (): Promise<void> => {
    while (left-- > 0) {
      try {
        report.copies.push(await restore({ ...options, clone }));
      } catch (error) {
        report.failed.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(count, availableParallelism()) }, worker));
  return report;
}
