/**
 * The v1 freezer: `freezer.state` is written as a wish and read as a fact, and reading it is what makes the
 * kernel look. There is no notification.
 * Source: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst and kernel/cgroup/legacy_freezer.c, Linux v6.12.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setImmediate as immediate, setTimeout as sleep } from 'node:timers/promises';
import { readControl, writeControl } from './control-file.js';
import type { UnfrozenTask } from './freezer-error.js';
import { HIDDEN_ANCESTOR, type FreezerState, type FreezeWait, type WaitOutcome } from './mechanism.js';

const STATE = 'freezer.state';
const SELF_FREEZING = 'freezer.self_freezing';
const PARENT_FREEZING = 'freezer.parent_freezing';

// Most freezes end within it; longer would hold up the event loop.
const SPIN_MS = 1;
const LONGEST_PAUSE_MS = 10;
// A task that the freezer found in a place where it cannot stop is not tried again: writing FROZEN anew does that.
const REWRITE_EVERY = 4;
// With tasks forking faster than the kernel walks them only a short thaw breaks the tie (runc does the same).
const BRIEF_THAW_EVERY = 25;

export const version = 1;

export function readState(path: string): FreezerState {
  return {
    selfFrozen: readControl(join(path, SELF_FREEZING)) === '1',
    frozenAncestor: readControl(join(path, PARENT_FREEZING)) === '1' ? frozenAncestor(path) : undefined,
    frozen: isFrozen(path),
  };
}

export function writeRequest(path: string, frozen: boolean): void {
  writeControl(join(path, STATE), frozen ? 'FROZEN' : 'THAWED');
}

export async function waitUntil(path: string, frozen: boolean, options: FreezeWait): Promise<WaitOutcome> {
  const { deadline, signal, mayThawBriefly = false } = options;
  const reached = () => readControl(join(path, STATE)) === (frozen ? 'FROZEN' : 'THAWED');
  const spinEnd = Math.min(performance.now() + SPIN_MS, deadline);
  do {
    if (reached()) return 'reached';
  } while (performance.now() < spinEnd);

  for (let round = 1; ; round++) {
    if (isAborted(signal)) return 'aborted';
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) return 'timeout';
    await pause(Math.min(Math.floor(round / 8), LONGEST_PAUSE_MS, Math.ceil(leftMs)), signal);
    if (reached()) return 'reached';
    if (!frozen) continue;
    if (mayThawBriefly && round % BRIEF_THAW_EVERY === 0 && !isAborted(signal)) writeRequest(path, false);
    if (round % REWRITE_EVERY === 0 || round % BRIEF_THAW_EVERY === 0) writeRequest(path, true);
  }
}

/**
 * A frozen task waits in __refrigerator or, since Linux 6.1, stays where it slept with state D. Such a sleep ends
 * in state D for a task that is blocked for good as well: the caller looks again after the thaw, when only the blocked
 * one is still D.
 */
export function looksUnfrozen(task: UnfrozenTask): boolean {
  if (task.wchan === '__refrigerator' || task.stack.some((line) => line.startsWith('__refrigerator'))) return false;
  return task.state !== 'Z' && task.state !== 'X';
}

function isFrozen(path: string): boolean {
  return readControl(join(path, STATE)) === 'FROZEN';
}

function frozenAncestor(path: string): string {
  for (let parent = dirname(path); existsSync(join(parent, SELF_FREEZING)); parent = dirname(parent)) {
    if (readControl(join(parent, SELF_FREEZING)) === '1') return parent;
  }
  return HIDDEN_ANCESTOR;
}

async function pause(pauseMs: number, signal: AbortSignal | undefined): Promise<void> {
  if (pauseMs < 1) return immediate();
  try {
    await sleep(pauseMs, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    if (!isAborted(signal)) throw error;
  }
}

/** A function, because the compiler takes a property it has seen false for false after an await as well. */
function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}
