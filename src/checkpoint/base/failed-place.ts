/**
 * Failures of the place where images are written, told as such: the system's words and CRIU's name files that no caller
 * knows of.
 */
import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf, StillframeError } from '../../errors.js';
import { CheckpointError } from './checkpoint-error.js';
import { privateDirIn } from './private-dir.js';

/**
 * Whether the directory can be written at all: CRIU says only that it cannot, and its log may be lost with the disk.
 * @returns the errno's name when it cannot
 */
export function tryWrite(directory: string): string | undefined {
  const path = join(directory, 'try');
  try {
    const fd = openSync(path, 'wx', 0o600);
    try {
      writeSync(fd, '.');
    } finally {
      closeSync(fd);
    }
    rmSync(path);
    return undefined;
  } catch (error) {
    return errnoOf(error) ?? 'unknown';
  }
}

/**
 * IMAGES_FAILED for what failed on a file in our private directory; LEFT_BEHIND with both errors when the directory
 * could not be removed either. Everything else as it came.
 */
export function explainFailedPlace(error: unknown): unknown {
  const [suppressed, last] = suppressedBy(error);
  if (last instanceof CheckpointError && last.code === 'LEFT_BEHIND') {
    const { path } = last.facts as { path: string };
    const first = explainFailedPlace(suppressed);
    return new CheckpointError('LEFT_BEHIND', {
      path,
      cause: new AggregateError([first, last.cause], messageOf(first)),
    });
  }
  const path = error instanceof CheckpointError ? undefined : pathOf(error);
  const place = path === undefined ? undefined : privateDirIn(path);
  if (place === undefined) return error;
  return new CheckpointError('IMAGES_FAILED', { path: place, reason: errnoOf(error) ?? 'unknown', cause: error });
}

/**
 * What `await using` makes of a failure that is followed by another: SuppressedError, which Node.js has a name for only
 * since 24.
 */
function suppressedBy(error: unknown): [suppressed: unknown, last: unknown] {
  if (!(error instanceof Error) || !('suppressed' in error) || !('error' in error)) return [undefined, undefined];
  return [error.suppressed, error.error];
}

function pathOf(error: unknown): string | undefined {
  const path: unknown =
    error instanceof StillframeError
      ? (error.facts as { path?: unknown }).path
      : (error as NodeJS.ErrnoException | undefined)?.path;
  return typeof path === 'string' ? path : undefined;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error);
}
