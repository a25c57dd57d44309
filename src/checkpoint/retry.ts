import { ArchiveError } from '../archive/index.js';
import { isFreezerError } from '../cgroup/index.js';
import { CriuError, type CriuProblem } from '../criu/index.js';
import { CheckpointError } from './base/checkpoint-error.js';
import type { Phases } from './events/phases.js';
import { pause } from '../when-aborted.js';

/**
 * What CRIU refuses at one instant and dumps at the next: a connection or a datagram that is just being made, a message
 * that is just being read. CRIU names it in words alone (known-failures.ts); where the words mislead, a try was made in
 * vain, no more.
 */
const passing: ReadonlySet<CriuProblem> = new Set(['unix-in-flight', 'tcp-in-flight', 'udp-corked', 'netlink-unread']);

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 500;

export interface RetryPlan {
  /** How often to try again. */
  retries: number;
  phases: Phases;
  signal?: AbortSignal | undefined;
}

/** Whether the failure is one of those, and not the sign of another: a target that ended, a full disk. */
export function passesByItself(error: unknown): boolean {
  if (error instanceof CheckpointError) return error.code === 'TARGET_FORKING';
  // A command was sent into the container just before the freeze.
  if (isFreezerError(error, 'CGROUP_HAS_STRANGERS')) return error.facts.guests === true;
  if (error instanceof ArchiveError) return error.code === 'CHANGE_UNNOTICED'; // the next try looks at everything
  return (
    error instanceof CriuError &&
    error.code === 'CRIU_REQUEST_FAILED' &&
    error.facts.problem !== undefined &&
    passing.has(error.facts.problem)
  );
}

/**
 * Tries until it succeeds, fails for good, or has been tried `retries` times more; each pause is twice as long as the
 * one before and a random part of it longer, lest it keep step with the target. The phase `retry` tells of each.
 * @param attempt Leaves nothing behind when it fails. `isLast`: a failure that would pass by itself is final too.
 * @throws the last attempt's error, unchanged; the signal's reason
 */
export async function withRetries<T>(
  { retries, phases, signal }: RetryPlan,
  attempt: (number: number, isLast: boolean) => Promise<T>,
): Promise<T> {
  for (let number = 1; ; number++) {
    try {
      return await attempt(number, number > retries);
    } catch (error) {
      if (number > retries || !passesByItself(error)) throw error;
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (number - 1)) * (1 + Math.random() / 2);
      await phases.run('retry', () => pause(pauseMs, signal), {
        attempt: number + 1,
        error,
      });
    }
  }
}
