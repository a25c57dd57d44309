import { checkCgroup, processTree, type Freezer } from '../cgroup/index.js';
import { cancellation } from './base/cancellation.js';
import {
  flag,
  optional,
  refuseAdoptedCgroup,
  requirePath,
  requirePid,
  requireRoot,
  windowSettings,
  type WindowSettings,
} from './base/check-option.js';
import type { FrozenReport } from './events/report.js';
import { Phases, type OnProgress, type OnWindow } from './events/phases.js';
import type { Guardian } from './guardian/guardian.js';
import { withHeldCgroup, type WholeCgroup } from './hold-cgroup.js';
import { withHeldTarget } from './hold-target.js';
import { closeFailedWindow, closeWindow } from './window/close-window.js';
import { Deadline } from './window/deadline.js';
import { workWhileFrozen, type Frozen } from './window/frozen.js';
import { FrozenWindow } from './window/frozen-window.js';
import { PartClock } from './window/part-clock.js';

/** How long a freeze may last, and who is told of it. */
export interface FreezeLimits {
  /**
   * How long the processes may stand still, in milliseconds. Past it they are thawed, whatever the callback does, and
   * the call rejects with DEADLINE_EXCEEDED: by the guardian, if this process is stopped or its event loop is blocked.
   * Default: no limit.
   */
  maxFrozenMs?: number | undefined;
  /** How long the freeze may take, in milliseconds. Default 2000. */
  freezeTimeoutMs?: number | undefined;
  /** How long the thaw may take, in milliseconds. Default 5000. */
  thawTimeoutMs?: number | undefined;
  /** As in CheckpointOptions. */
  stateDir?: string | undefined;
  /** As in CheckpointOptions. */
  placeGuardianIn?: string | undefined;
  /**
   * Cancels at any point, also while the callback works: everything is thawed, and the call rejects with its reason.
   */
  signal?: AbortSignal | undefined;
  /** Called at the start and end of each phase. It must not throw. */
  onProgress?: OnProgress | undefined;
  /** Called when the frozen window has been closed. It must not throw. */
  onWindow?: OnWindow | undefined;
}

/** A process tree, whose cgroup must hold nothing else... */
export interface TreeToFreeze {
  /** The root of the process tree. */
  pid: number;
  /** Directory of its freezer cgroup. Default: found from /proc/PID/cgroup. */
  cgroup?: string | undefined;
  /** Which freezer, where the process is in a cgroup of both (hybrid layout). */
  cgroupVersion?: 1 | 2 | undefined;
  /** Move the tree into a cgroup of its own meanwhile, and back. Default false: a tree that shares one is refused. */
  adopt?: boolean | undefined;
}

/** ...or a cgroup with all that is in it and below it, whatever that is. */
export interface CgroupToFreeze {
  pid?: undefined;
  /** Directory of the cgroup. */
  cgroup: string;
}

/**
 * Freezes a tree, verified in the kernel, runs `callback`, and thaws it, verified. See `whileFrozen`, which does the
 * same for containers.
 */
export async function whileTreeFrozen<T>(
  options: (TreeToFreeze | CgroupToFreeze) & FreezeLimits,
  callback: (frozen: Frozen) => T | Promise<T>,
): Promise<FrozenReport<T>> {
  if (options.pid === undefined) return whileCgroupFrozen(options, callback);
  const settings = checkOptions(options);
  requirePid('pid', options.pid);
  flag('adopt', options.adopt, false);
  refuseAdoptedCgroup(options);
  const { pid, cgroup, cgroupVersion, adopt, signal } = options;
  const target = { pid, cgroup, cgroupVersion, adopt };
  return freezing(options, (phases) =>
    withHeldTarget({ options: { ...target, signal }, settings, phases }, (held) =>
      work(callback, {
        ...{ pid, settings, phases, signal, guardian: held.guardian },
        freezer: held.target.freezer,
        isAdopted: adopt === true,
        frozenPids: () => held.target.members(processTree(pid)).map((member) => member.pid),
      }),
    ),
  );
}

/** The same for all that is in a cgroup; `pid` is the root of the tree that it is known for, if any. */
export async function whileCgroupFrozen<T>(
  { cgroup, pid, ...limits }: WholeCgroup & FreezeLimits,
  callback: (frozen: Frozen) => T | Promise<T>,
): Promise<FrozenReport<T>> {
  const settings = checkOptions({ ...limits, cgroup });
  const { signal } = limits;
  return freezing(limits, (phases) =>
    withHeldCgroup({ options: { cgroup, pid, signal }, settings, phases }, (held) =>
      work(callback, {
        ...{ pid, settings, phases, signal, ...held },
        isAdopted: false,
        frozenPids: () => checkCgroup(cgroup),
      }),
    ),
  );
}

async function freezing<T>(limits: FreezeLimits, freeze: (phases: Phases) => Promise<T>): Promise<T> {
  limits.signal?.throwIfAborted();
  try {
    return await freeze(new Phases('freeze', limits));
  } catch (error) {
    throw cancellation(error, limits.signal);
  }
}

interface Held {
  pid: number | undefined;
  freezer: Freezer;
  isAdopted: boolean;
  guardian: Guardian;
  /** The processes, once they stand still. @throws FreezerError where they are not those that were to be frozen */
  frozenPids: () => number[];
  settings: WindowSettings;
  signal: AbortSignal | undefined;
  phases: Phases;
}

/** One window around the callback. However this ends, it is closed. */
async function work<T>(
  callback: (frozen: Frozen) => T | Promise<T>,
  { pid, freezer, isAdopted, guardian, frozenPids, settings, signal, phases }: Held,
): Promise<FrozenReport<T>> {
  const { maxFrozenMs, freezeTimeoutMs, thawTimeoutMs } = settings;
  using deadline = new Deadline({ maxFrozenMs, signal, phase: () => phases.current });
  const window = new FrozenWindow(freezer, { freezeTimeoutMs, thawTimeoutMs, signal: deadline.signal });
  const clock = new PartClock('freezeMs', 'callbackMs', 'thawMs');
  const timed = { pid, window, clock, phases };
  try {
    // The time runs from before the freeze, so that the guardian has the same deadline.
    deadline.start();
    if (deadline.endsAtMs !== undefined) await guardian.thawBy(deadline.endsAtMs);
    await guardian.openWindow(window.foundFrozen);
    clock.start();
    await phases.run('freeze', () => window.open());
    clock.mark('freezeMs');
    const pids = frozenPids();
    const result = await workWhileFrozen(callback, { pid, pids }, { window, deadline, phases });
    deadline.stop();
    clock.mark('callbackMs');
    await closeWindow(timed, 'done');
    return {
      result,
      ...{ pid, pids, windowMs: clock.totalMs },
      cgroup: { version: window.version, path: window.cgroup, adopted: isAdopted },
      window: clock.parts,
      totalMs: phases.elapsedMs,
      phasesMs: phases.durationsMs,
      foundFrozen: window.foundFrozen,
      guardianLost: guardian.lost !== undefined,
    };
  } catch (error) {
    deadline.cancel(error);
    const reason = deadline.exceeded ?? error;
    await closeFailedWindow(timed, reason);
    throw reason;
  } finally {
    // One that could not be closed is left to the guardian, which tries for longer.
    if (!window.isOpen) guardian.closeWindow();
  }
}

function checkOptions(options: FreezeLimits & { cgroup?: string | undefined }): WindowSettings {
  optional('cgroup', options.cgroup, requirePath);
  optional('stateDir', options.stateDir, requirePath);
  optional('placeGuardianIn', options.placeGuardianIn, requirePath);
  requireRoot('a freeze with a guardian');
  return windowSettings(options);
}
