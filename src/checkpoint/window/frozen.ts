import { whileWanted } from '../../while-wanted.js';
import type { Phases } from '../events/phases.js';
import type { Deadline } from './deadline.js';
import type { FrozenWindow } from './frozen-window.js';

/** What stands still while a callback works, verified in the kernel. */
export interface Frozen {
  /** The root of the tree; undefined where a cgroup was named without one. */
  pid: number | undefined;
  /** All processes that stand still. */
  pids: readonly number[];
  /** The directory of the cgroup that is frozen. An adopted tree is in one of its own. */
  cgroup: { version: 1 | 2; path: string };
  /**
   * When they will be thawed, whatever the callback does: milliseconds on the clock of `performance.now()`. Undefined
   * without `maxFrozenMs`.
   */
  deadlineMs: number | undefined;
  /** Aborted at the deadline, or when the caller cancels: they run again then, and the callback's work is of no use. */
  signal: AbortSignal;
}

/** Work of the caller's while everything stands still. */
export type OnFrozen = (frozen: Frozen) => void | Promise<void>;

export interface FrozenWork {
  window: FrozenWindow;
  deadline: Deadline;
  phases: Phases;
}

/**
 * Runs the caller's work in an open window. When this resolves, everything has stood still all the while. A callback
 * that goes on past the deadline is left behind. For one that blocks the event loop, and for a process that is stopped
 * meanwhile, the guardian has to know the deadline (`Guardian.thawBy`).
 * @throws the callback's own error; CheckpointError DEADLINE_EXCEEDED, THAWED_BY_OTHERS; the reason of the caller's
 * signal
 */
export async function workWhileFrozen<T>(
  callback: (frozen: Frozen) => T | Promise<T>,
  { pid, pids }: Pick<Frozen, 'pid' | 'pids'>,
  { window, deadline, phases }: FrozenWork,
): Promise<T> {
  deadline.check();
  const frozen: Frozen = {
    pid,
    pids,
    cgroup: { version: window.version, path: window.cgroup },
    deadlineMs: deadline.endsAtMs,
    signal: deadline.signal,
  };
  const work = async (): Promise<T> => callback(frozen);
  return phases.run('callback', async () => {
    try {
      const result = await whileWanted(work(), deadline.signal);
      await window.verifyHeld();
      deadline.check();
      return result;
    } catch (error) {
      deadline.check(error);
      throw error;
    }
  });
}
