/**
 * The v2 freezer: `cgroup.freeze` is the wish of this cgroup, `frozen` in `cgroup.events` what is so, ancestors
 * included. The kernel raises POLLPRI on cgroup.events when that changes.
 * Source: Documentation/admin-guide/cgroup-v2.rst, "cgroup.freeze", and kernel/cgroup/freezer.c, Linux v6.12.
 */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { native } from '../native.js';
import { whenAborted } from '../when-aborted.js';
import { OpenControl, readControl, writeControl } from './control-file.js';
import type { UnfrozenTask } from './freezer-error.js';
import { HIDDEN_ANCESTOR, type FreezerState, type FreezeWait, type WaitOutcome } from './mechanism.js';

const FREEZE = 'cgroup.freeze';
const EVENTS = 'cgroup.events';

// Most freezes end within it; longer would hold up the event loop.
const SPIN_MS = 1;
// The notification is enough; this is for a kernel that fails to send one.
const SAFETY_READ_MS = 100;

export const version = 2;

export function readState(path: string): FreezerState {
  const selfFrozen = readControl(join(path, FREEZE)) === '1';
  const frozen = isFrozen(readControl(join(path, EVENTS)));
  // A cgroup that nobody asked never reports frozen: whoever asked is then out of sight.
  return {
    selfFrozen,
    frozenAncestor: frozenAncestor(path) ?? (frozen && !selfFrozen ? HIDDEN_ANCESTOR : undefined),
    frozen,
  };
}

export function writeRequest(path: string, frozen: boolean): void {
  writeControl(join(path, FREEZE), frozen ? '1' : '0');
}

export async function waitUntil(path: string, frozen: boolean, options: FreezeWait): Promise<WaitOutcome> {
  const { deadline, signal } = options;
  const events = new OpenControl(join(path, EVENTS));
  try {
    const reached = () => isFrozen(events.read()) === frozen;
    const spinEnd = Math.min(performance.now() + SPIN_MS, deadline);
    do {
      if (reached()) return 'reached';
    } while (performance.now() < spinEnd);
    return await notified(events.fd, reached, deadline, signal);
  } finally {
    events[Symbol.dispose]();
  }
}

/**
 * A frozen task sits in the freezer's trap (inlined into get_signal by some compilers), or in a stop that counts as
 * frozen: of a signal, of its tracer, or of a vfork parent. Every other place is one that it has not left yet.
 */
export function looksUnfrozen(task: UnfrozenTask): boolean {
  if (task.state === 'Z' || task.state === 'X' || task.state === 'T' || task.state === 't') return false;
  if (task.state === 'R') return true;
  const innermost = [task.wchan, ...task.stack.slice(0, 1)].join(' ');
  if (/do_freezer_trap|get_signal/.test(innermost)) return false;
  return !task.stack.some((line) => line.startsWith('kernel_clone'));
}

function isFrozen(events: string): boolean {
  return /^frozen 1$/m.test(events);
}

function frozenAncestor(path: string): string | undefined {
  for (let parent = dirname(path); existsSync(join(parent, FREEZE)); parent = dirname(parent)) {
    if (readControl(join(parent, FREEZE)) === '1') return parent;
  }
  return undefined;
}

function notified(
  fd: number,
  reached: () => boolean,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<WaitOutcome> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return resolve('aborted');
    const look = () => {
      try {
        if (reached()) settle(() => resolve('reached'));
      } catch (error) {
        settle(() => reject(error as Error));
      }
    };
    const settle = (how: () => void) => {
      poll.close();
      clearTimeout(timeout);
      clearInterval(safety);
      forget();
      how();
    };
    const poll = new (native().Poll)(fd, 'priority', look);
    const timeout = setTimeout(() => settle(() => resolve('timeout')), Math.max(0, deadline - performance.now()));
    const safety = setInterval(look, SAFETY_READ_MS);
    const forget = whenAborted(signal, () => settle(() => resolve('aborted')));
    // What changed between the last read of the spin and the start of the watch.
    look();
  });
}
