import { setImmediate as immediate } from 'node:timers/promises';
import type { Stage } from '../../archive/index.js';
import { processTree, type CgroupMember } from '../../cgroup/index.js';
import {
  CriuClient,
  type CriuClientOptions,
  type CriuDumpRequest,
  type CriuNotification,
  type DumpProgress,
} from '../../criu/index.js';
import type { ProcessInfo } from '../../proc/task.js';
import { pidForCriu } from '../clone/copy-target.js';
import { DUMP_LOG } from '../dump/dump.js';
import { closeFailedWindow, closeWindow } from './close-window.js';
import type { Deadline } from './deadline.js';
import { workWhileFrozen, type OnFrozen } from './frozen.js';
import type { FrozenWindow } from './frozen-window.js';
import { PartClock, type WindowParts } from './part-clock.js';
import type { Guardian } from '../guardian/guardian.js';
import type { Phases } from '../events/phases.js';
import type { ReadyTarget } from './ready-target.js';
import type { SealedCheckpoint } from '../seal.js';
import { refuseVfork } from './refuse-vfork.js';
import { warnOfIdlePatterns } from '../warnings/idle-patterns.js';
import type { Warnings } from '../warnings/warnings.js';

export interface SnapshotPlan {
  target: ReadyTarget;
  stage: Stage;
  window: FrozenWindow;
  phases: Phases;
  warnings: Warnings;
  criuPath: string;
  /** CRIU's environment. Undefined: ours. */
  criuEnv: NodeJS.ProcessEnv | undefined;
  dump: CriuDumpRequest;
  guardian: Guardian;
  deadline: Deadline;
  /** The caller's work, before CRIU may touch what has been verified to stand still. */
  onFrozen?: OnFrozen | undefined;
  /**
   * For a tree that CRIU is to end: makes the archive safe when memory and files are complete and CRIU still holds
   * every task. A failure here undoes the dump.
   */
  sealBeforeEnd?: ((members: CgroupMember[]) => Promise<SealedCheckpoint>) | undefined;
}

export interface Snapshot {
  members: CgroupMember[];
  /** The same, by the pids that the images have. */
  recorded: CgroupMember[];
  /** From the write that asks for the freeze to the verified thaw, in milliseconds: the sum of the parts. */
  windowMs: number;
  parts: WindowParts;
  /** What `sealBeforeEnd` made. */
  sealed: SealedCheckpoint | undefined;
}

/**
 * Memory and files of one instant: freezes when CRIU is ready to seize, lets it dump while the changed files
 * are copied, and thaws. However this ends, the window is closed.
 */
export async function takeSnapshot(plan: SnapshotPlan): Promise<Snapshot> {
  const { window, phases, guardian, deadline } = plan;
  const clock = new PartClock('freezeMs', 'callbackMs', 'dumpMs', 'waitForFilesMs', 'releaseMs', 'thawMs');
  const timed = { pid: plan.target.pid, window, clock, phases };
  let copied: Promise<void> | undefined;
  let tree: ProcessInfo[] = [];
  let members: CgroupMember[] = [];
  let recorded: CgroupMember[] = [];
  let sealed: SealedCheckpoint | undefined;
  /** Why the frozen target is not the one that was checked: CRIU often fails for that too, and says less. */
  let refused: unknown;

  const onPreDump = async (): Promise<void> => {
    await plan.target.guestsGone(deadline.signal);
    await plan.target.parts.together?.ready();
    // From here on the guardian thaws if we die; when it is dead itself, nothing is frozen.
    await guardian.openWindow(window.foundFrozen);
    deadline.start();
    clock.start();
    await phases.run('freeze', async () => {
      await window.open();
      tree = processTree(plan.target.pid);
      refuseVfork(tree);
      await plan.target.parts.together?.frozen();
    });
    clock.mark('freezeMs');
    if (plan.onFrozen !== undefined) await callOnFrozen(plan, plan.onFrozen, tree);
    clock.mark('callbackMs');
    copied = checkAndRefresh();
    copied.catch(() => undefined); // it is awaited at post-dump, or after the thaw
  };

  /** Beside CRIU, after our answer: frozen and then seized, nothing in the cgroup can fork, move or write. */
  const checkAndRefresh = async (): Promise<void> => {
    await immediate();
    try {
      members = plan.target.members(tree);
      recorded = members.map((member) => ({ ...member, pid: pidForCriu(member.pid, plan.target) }));
    } catch (error) {
      refused = error;
      throw error;
    }
    const pids = members.map(({ pid }) => pid);
    const { signal } = deadline;
    const mapped = await plan.target.mapped(pids, signal);
    const refreshed = phases.run('refresh', () =>
      plan.stage.refresh({ mapped, writable: () => plan.target.writable(pids, signal), signal }),
    );
    refreshed.catch(() => undefined); // it is awaited in any case
    try {
      // Beside the look at the trees, which other threads take.
      await immediate();
      plan.warnings.add(...plan.target.outside(pids, `/proc/self/fd/${String(plan.dump.workDir)}/${DUMP_LOG}`));
    } finally {
      await refreshed;
    }
    plan.warnings.add(...warnOfIdlePatterns(plan.stage.patternUses()));
  };

  const onPostDump = async (): Promise<void> => {
    clock.mark('dumpMs');
    await copied;
    await plan.target.parts.together?.dumped();
    clock.mark('waitForFilesMs');
    if (plan.sealBeforeEnd === undefined) return;
    sealed = await plan.sealBeforeEnd(recorded);
    await plan.target.parts.together?.sealed();
  };

  const onNotify = async ({ script }: CriuNotification): Promise<void> => {
    if (script === 'pre-dump') await onPreDump();
    else if (script === 'post-dump') await onPostDump();
  };

  const client = await phases.run('start-criu', () => CriuClient.start(criuFor(plan)));
  // If we die, the guardian thaws after CRIU's end: CRIU writes the freeze back when it undoes its work.
  guardian.knowCriu(client.pid);
  deadline.awaitCriu(client.pid);
  try {
    const told = phases.listened
      ? {
          onProgress: ({ writtenBytes: done, expectedBytes: total }: DumpProgress): void =>
            phases.progress('dump', { done, total, unit: 'bytes' }),
        }
      : {};
    await phases.run('dump', () => client.dump(plan.dump, { onNotify, signal: deadline.signal, ...told }));
    deadline.stop();
    clock.mark('releaseMs');
    // With `sealBeforeEnd` the archive is complete by now, and CRIU has ended the tree: nothing is left to hold.
    if (plan.dump.leaveRunning === true) await window.verifyHeld();
    await closeWindow(timed, 'dumped');
    return { members, recorded, windowMs: clock.totalMs, parts: clock.parts, sealed };
  } catch (error) {
    deadline.cancel(error);
    const reason = deadline.exceeded ?? refused ?? error;
    await closeFailedWindow(timed, reason);
    throw reason;
  } finally {
    await copied?.catch(() => undefined);
    await client.close();
    // Not before CRIU's end: one that is still alive could write the freeze back. A window that could not be closed
    // is left to the guardian, which tries for longer.
    if (!window.isOpen) guardian.closeWindow();
  }
}

/** In the namespaces of a copy, where that is the target. */
function criuFor({ criuPath, criuEnv: env, target, dump }: SnapshotPlan): CriuClientOptions {
  const { inside } = target.parts;
  if (inside === undefined) return { criuPath, env };
  const fds = [dump.imagesDir, dump.workDir].filter((directory) => typeof directory === 'number');
  return { criuPath, env, enter: { pid: inside.init, program: inside.program }, fds };
}

/** The guardian has the deadline meanwhile, and not while CRIU works: a thaw of its would come between. */
async function callOnFrozen(
  { target, window, guardian, deadline, phases }: SnapshotPlan,
  onFrozen: OnFrozen,
  tree: readonly ProcessInfo[],
): Promise<void> {
  const pids = target.members(tree).map(({ pid }) => pid);
  if (deadline.endsAtMs !== undefined) await guardian.thawBy(deadline.endsAtMs);
  await workWhileFrozen(onFrozen, { pid: target.pid, pids }, { window, deadline, phases });
  if (deadline.endsAtMs === undefined) return;
  await guardian.thawBy(undefined);
  await window.verifyHeld();
  deadline.check();
}
