import { CheckpointError } from './checkpoint-error.js';
import { CriuError } from '../../criu/index.js';
import { FreezerError } from '../../cgroup/index.js';

/**
 * What a cancelled operation rejects with: the signal's reason, whichever step met it. An error that says that
 * something could not be put right, or that is not the cancellation's doing, comes out as it is.
 */
export function cancellation(error: unknown, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted !== true) return error;
  const isOurs =
    (error instanceof CriuError && error.code === 'CRIU_ABORTED') ||
    (error instanceof FreezerError &&
      error.code === 'FREEZE_ABORTED' &&
      (error.facts as { after?: string }).after !== 'not-thawed');
  const isNode = error instanceof Error && error.name === 'AbortError' && !(error instanceof CheckpointError);
  return isOurs || isNode ? signal.reason : error;
}
