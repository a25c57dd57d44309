/** CRIU's part of a restore: from the images to a tree that runs. */
import { setImmediate as immediate } from 'node:timers/promises';
import { cgroupOf, moveProcess, openFreezer, placeProcess } from '../../cgroup/index.js';
import { CriuClient, isOurTerminal, LazyPages, type CriuNotification } from '../../criu/index.js';
import { errnoOf } from '../../errors.js';
import { hasFatalSignal, isAlive } from '../../proc/task.js';
import { EndWatch } from '../../tree-end.js';
import { whenAborted } from '../../when-aborted.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { runningPids } from '../base/pids.js';
import type { Subject } from '../base/recorded-target.js';
import type { Guardian } from '../guardian/guardian.js';
import type { PrivateDir } from '../base/private-dir.js';
import type { Phases } from '../events/phases.js';
import type { RestoreOptions, RestoreSettings } from '../options.js';
import type { RecordedWarning } from '../warnings/recorded.js';
import { statesNotRestored } from '../warnings/task-state.js';
import { warning } from '../warnings/warning.js';
import type { Warnings } from '../warnings/warnings.js';
import { placeMembers } from './restore-cgroup.js';
import { restoreLocks, type LostLock } from './restore-locks.js';
import type { Undo } from './undo.js';
import type { UnpackedImages } from './unpack-images.js';

/** The name of CRIU's log in the work directory. */
export const RESTORE_LOG = 'restore.log';

export interface TreePlan {
  criuPath: string;
  subject: Subject;
  images: UnpackedImages;
  privateDir: PrivateDir;
  /** What was warned of when the archive was made. */
  recorded: readonly RecordedWarning[];
  cgroup: string | undefined;
  terminal: number | undefined;
  guardian: Guardian;
  phases: Phases;
  warnings: Warnings;
  options: RestoreOptions;
  settings: RestoreSettings;
}

export interface RunningTree {
  pid: number;
  watch: EndWatch;
}

/**
 * Restores the tree and sees it running, all its memory there.
 * @param undo Told how the tree is ended again.
 * @throws CriuError, FreezerError, CheckpointError NOT_RUNNING, WARNINGS_REFUSED
 */
export async function runTree(plan: TreePlan, undo: Undo): Promise<RunningTree> {
  const { criuPath, images, privateDir, cgroup, guardian, phases, warnings, settings } = plan;
  await using lazyPages = settings.lazyPages
    ? await LazyPages.start({ criuPath, imagesDir: images.path, workDir: privateDir.path })
    : undefined;
  if (lazyPages !== undefined) guardian.knowTree(lazyPages.pid);
  const { pid, leader, lostLocks } = await phases.run('restore', () => restoreByCriu(plan));
  undo.push(() => killTree(pid, cgroup));
  const watch = watchEnd(pid);
  undo.push(() => Promise.resolve(watch.close()));
  if (lostLocks.length > 0) warnings.add(warning('LOCKS_LOST', { locks: lostLocks, restoredBy: 'stillframe' }));
  // What CRIU has become is none of the tree: a next checkpoint would find it in the cgroup.
  if (leader !== undefined && cgroup !== undefined)
    moveProcess(leader, cgroupOf(process.pid, openFreezer({ cgroup }).version).path);
  await phases.run('thaw', () => verifyRunning(pid, cgroup, settings.thawTimeoutMs));
  const lost = await statesNotRestored(plan.recorded, pid);
  if (lost.states.length + lost.more > 0) warnings.add(warning('STATE_LOST', lost));
  // The images must stay until then, and a tree whose memory cannot come any more is of no use to anybody.
  if (lazyPages !== undefined) await phases.run('lazy-pages', () => finished(lazyPages, plan.options.signal));
  return { pid, watch };
}

/**
 * CRIU is placed in the cgroup first: what it restores is born there. `leader`: its process, where it leads the session
 * of the terminal from now on.
 */
async function restoreByCriu({
  criuPath,
  subject,
  images,
  privateDir,
  cgroup,
  terminal,
  guardian,
  options,
  settings,
}: TreePlan): Promise<{ pid: number; leader: number | undefined; lostLocks: LostLock[] }> {
  await using client = await CriuClient.start({ criuPath, ...(terminal === undefined ? {} : { terminal }) });
  guardian.knowCriu(client.pid);
  if (cgroup !== undefined) placeCriu(client.pid, cgroup);
  const pids = new Map(images.processes.map(({ pid }) => [pid, pid]));
  let lostLocks: LostLock[] = [];
  const onNotify = async ({ script, pid }: CriuNotification): Promise<void> => {
    if (pid !== undefined) guardian.knowTree(pid);
    if (script !== 'post-restore') return;
    // All tasks exist and none has run yet: those that lived in cgroups below go there now.
    if (cgroup !== undefined) placeMembers(subject, pids, cgroup);
    if (pid === undefined) return;
    lostLocks = await restoreLocks(images.locks, pid);
    await options.onBeforeResume?.({ pid, pids: runningPids(pid), root: '/' });
  };
  const { pid } = await client.restore(
    {
      logFile: RESTORE_LOG,
      logLevel: 2,
      ...subject.criuOptions,
      ...options.criu,
      ...(settings.lazyPages ? { lazyPages: true } : {}),
      imagesDir: images.fd,
      workDir: privateDir.fd,
    },
    { onNotify, signal: options.signal },
  );
  return { pid, leader: terminal !== undefined && !isOurTerminal(terminal) ? client.pid : undefined, lostLocks };
}

/** How a CRIU ended that is not there any more, the request tells. */
function placeCriu(pid: number, cgroup: string): void {
  try {
    placeProcess(pid, cgroup);
  } catch (error) {
    if (isAlive(pid)) throw error;
  }
}

/** All memory is there; a cancelled wait kills the daemon. */
async function finished(lazyPages: LazyPages, signal: AbortSignal | undefined): Promise<void> {
  const forget = whenAborted(signal, () => void lazyPages.close());
  try {
    await lazyPages.finished();
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    forget();
  }
}

/**
 * The end that every restore has: a tree whose freezer had been restored with it would otherwise stand still.
 * @throws CheckpointError NOT_RUNNING, FreezerError
 */
export async function verifyRunning(pid: number, cgroup: string | undefined, timeoutMs: number): Promise<void> {
  if (cgroup !== undefined) await openFreezer({ cgroup }).thaw({ timeoutMs });
  // CRIU's end may have sent the root a signal (PR_SET_PDEATHSIG) that it has not got round to yet. The second look is
  // for one that was taking it during the first.
  for (let looks = 0; looks < 2; looks++, await immediate()) {
    const ended = hasFatalSignal(pid) || !isAlive(pid);
    if (ended) throw new CheckpointError('NOT_RUNNING', { pid, what: 'it has ended already' });
  }
}

/** @throws CheckpointError NOT_RUNNING; errno errors, where no descriptor is left */
export function watchEnd(pid: number): EndWatch {
  try {
    return new EndWatch(pid);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
    throw new CheckpointError('NOT_RUNNING', { pid, what: 'it has ended already' });
  }
}

/** Ends what CRIU restored. A task that v1 holds frozen dies only when it is thawed. */
async function killTree(pid: number, cgroup: string | undefined): Promise<void> {
  for (const member of runningPids(pid)) {
    try {
      process.kill(member, 'SIGKILL');
    } catch {
      // it ended with its parent
    }
  }
  if (cgroup !== undefined) await openFreezer({ cgroup }).thaw();
}
