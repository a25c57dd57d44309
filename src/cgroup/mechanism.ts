import type { UnfrozenTask } from './freezer-error.js';
import type { CgroupVersion } from './mountinfo.js';

/** Three facts, never one word. */
export interface FreezerState {
  /** This very cgroup was asked to be frozen: v1 `freezer.self_freezing`, v2 `cgroup.freeze`. */
  selfFrozen: boolean;
  /** The nearest ancestor that was asked to be frozen, or HIDDEN_ANCESTOR; `undefined` when there is none. */
  frozenAncestor: string | undefined;
  /** The kernel says that no task in it or below it runs: v1 `freezer.state`, v2 `frozen` in `cgroup.events`. */
  frozen: boolean;
}

/** Stands for a frozen ancestor above what this process's mounts show. */
export const HIDDEN_ANCESTOR = '(above the visible part of the hierarchy)';

export interface FreezeWait {
  /** On the clock of performance.now(). */
  deadline: number;
  signal?: AbortSignal | undefined;
  /** v1 only: a freeze that does not end may be helped by a short thaw. Not when it was self-frozen before. */
  mayThawBriefly?: boolean;
}

export type WaitOutcome = 'reached' | 'timeout' | 'aborted';

/** What the two kernel interfaces can do; `freezer.ts` makes the promises of it. */
export interface FreezerMechanism {
  readonly version: CgroupVersion;
  /** Does this cgroup, and do the cgroups above it, have a freezer that can be asked? */
  readState(path: string): FreezerState;
  writeRequest(path: string, frozen: boolean): void;
  /** Resolves when the kernel reports `frozen` to be so. */
  waitUntil(path: string, frozen: boolean, options: FreezeWait): Promise<WaitOutcome>;
  /** Tells by a task's state and kernel stack: is it one that the freezer has not stopped? */
  looksUnfrozen(task: UnfrozenTask): boolean;
}
