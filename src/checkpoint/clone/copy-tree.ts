/** CRIU's part of a copy, inside its namespaces. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { placeProcess } from '../../cgroup/index.js';
import type { CriuNotification } from '../../criu/index.js';
import { childrenOf } from '../../proc/children.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { pidsByInnermost, runningPids } from '../base/pids.js';
import type { Subject } from '../base/recorded-target.js';
import { placeMembers } from '../restore/restore-cgroup.js';
import { restoreLocks, type LostLock } from '../restore/restore-locks.js';
import { RESTORE_LOG } from '../restore/restore-tree.js';
import { idsOf, type UnpackedImages } from '../restore/unpack-images.js';
import type { RestoreOptions } from '../options.js';
import type { CopyInit, Directory } from './copy-init.js';

export interface CopyTreePlan {
  init: CopyInit;
  criuPath: string;
  subject: Subject;
  images: Pick<UnpackedImages, 'path' | 'fd' | 'processes' | 'locks'>;
  work: Directory;
  /** The tree's cgroup. */
  cgroup: string;
  options: RestoreOptions;
}

export interface CopiedTree {
  /** The tree's root, as this process sees it, and as its own pid namespace does. */
  pid: number;
  innerPid: number;
  lostLocks: LostLock[];
}

/** @throws CriuError, FreezerError, CheckpointError CLONE_FAILED, NOT_RUNNING; the signal's reason */
export async function restoreCopy(plan: CopyTreePlan): Promise<CopiedTree> {
  const { init, criuPath, subject, images, work, cgroup, options } = plan;
  const lastPid = pidBefore(idsOf(images.processes));
  await using client = await init.startCriu(criuPath, { lastPid, images, work });
  placeProcess(await criuOf(init.pid), cgroup);
  let lostLocks: LostLock[] = [];
  const onNotify = async ({ script, pid }: CriuNotification): Promise<void> => {
    if (script !== 'post-restore') return;
    const pids = pidsByInnermost(init.pid);
    placeMembers(subject, pids, cgroup);
    const root = pid === undefined ? undefined : pids.get(pid);
    if (root === undefined) return;
    lostLocks = await restoreLocks(images.locks, root);
    await options.onBeforeResume?.({ pid: root, pids: runningPids(root), root: `/proc/${init.pid}/root` });
  };
  const { pid: innerPid } = await client.restore(
    {
      logFile: RESTORE_LOG,
      logLevel: 2,
      ...subject.criuOptions,
      ...options.criu,
      imagesDir: images.fd,
      workDir: work.fd,
    },
    { onNotify, ...(options.signal === undefined ? {} : { signal: options.signal }) },
  );
  const pid = await outerPid(init.pid, innerPid);
  if (pid === undefined) throw new CheckpointError('NOT_RUNNING', { pid: innerPid, what: 'it has ended already' });
  return { pid, innerPid, lostLocks };
}

/** Its only child so far; the answer that CRIU has been started comes before its exec. */
async function criuOf(init: number): Promise<number> {
  for (let tries = 0; tries < 1000; tries++, await sleep(2)) {
    const [criu] = childrenOf(init);
    if (criu !== undefined) return criu;
  }
  throw new CheckpointError('CLONE_FAILED', { step: 'criu', path: undefined, reason: 'it ended' });
}

const PIDS_OF_CRIU = 1024;
/** Where the kernel goes on when the highest pid has been given. Source: kernel/pid.c, RESERVED_PIDS, Linux v6.12. */
const FIRST_PID = 300;

/** A pid after which so many come that CRIU and its children, which probe the kernel, get none of the wanted ones. */
function pidBefore(wanted: readonly number[]): number {
  const max = Number(readFileSync('/proc/sys/kernel/pid_max', 'latin1'));
  const bounds = [FIRST_PID, ...wanted.filter((pid) => pid > FIRST_PID && pid < max), max].sort((a, b) => a - b);
  let best = { after: FIRST_PID, room: 0 };
  for (let i = 1; i < bounds.length; i++) {
    const [after, room] = [bounds[i - 1]!, bounds[i]! - bounds[i - 1]!];
    if (room > PIDS_OF_CRIU) return after;
    if (room > best.room) best = { after, room };
  }
  return best.after;
}

const LOOKS = 20;
const PAUSE_MS = 10;

/**
 * What a process is called outside of its copy. CRIU's helpers are ending at this time, and the kernel's list of
 * children may lack one whose sibling ends: only one that is missing again and again has ended. Source: proc(5),
 * `children`.
 */
async function outerPid(initPid: number, innerPid: number): Promise<number | undefined> {
  for (let look = 1; ; look++) {
    const pid = pidsByInnermost(initPid).get(innerPid);
    if (pid !== undefined || look === LOOKS) return pid;
    await sleep(PAUSE_MS);
  }
}
