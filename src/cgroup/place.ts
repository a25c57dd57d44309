import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errnoOf } from '../errors.js';
import { requireOptions, requirePath, requirePid } from './check-arguments.js';
import { controlError, writeControl } from './control-file.js';
import { FreezerError, isFreezerError } from './freezer-error.js';
import { cgroupsFrom, PROCS_FILE, readIds, tasksFrom } from './hierarchy.js';
import { openCgroup } from './locate.js';
import type { CgroupVersion } from './mountinfo.js';
import { leaderOf, readProcess } from '../proc/task.js';

/**
 * Makes a cgroup that can be frozen, and its parents, where they are missing.
 * @returns the directories made, parents first: what an undo has to remove, from the end
 * @throws FreezerError BAD_OPTION, NOT_A_CGROUP, CGROUP_IS_ROOT, FREEZER_UNSUPPORTED, CGROUP_DENIED,
 * CONTROL_FILE_FAILED; nothing made is left then
 */
export function makeCgroup(path: string): string[] {
  requirePath('path', path);
  const missing = missingCgroups(path);
  // A plain directory on a disk must not be taken for a cgroup.
  if (!existsSync(join(missing.length === 0 ? path : dirname(missing[0] as string), PROCS_FILE)))
    throw new FreezerError('NOT_A_CGROUP', { path });
  const made: string[] = [];
  try {
    for (const directory of missing) if (makeDirectory(directory)) made.push(directory);
    openCgroup(path);
  } catch (error) {
    for (const directory of made.reverse()) rmdirSync(directory);
    throw error;
  }
  return made;
}

/** What `makeCgroup` would make, parents first. */
export function missingCgroups(path: string): string[] {
  const missing: string[] = [];
  for (let directory = path; !existsSync(directory); directory = dirname(directory)) missing.unshift(directory);
  return missing;
}

/** False when somebody else made it meanwhile. */
function makeDirectory(path: string): boolean {
  try {
    mkdirSync(path);
    return true;
  } catch (cause) {
    if (errnoOf(cause) === 'EEXIST') return false;
    throw controlError(cause, path, 'make');
  }
}

/**
 * Moves a process with all its threads into a cgroup, which is made when it is missing, and verifies that it is there.
 * @throws FreezerError NO_SUCH_PROCESS, PLACE_FAILED, and the codes of makeCgroup
 */
export function placeProcess(pid: number, cgroupPath: string): void {
  requirePid(pid);
  requirePath('cgroupPath', cgroupPath);
  makeCgroup(cgroupPath);
  moveProcess(pid, cgroupPath);
  if (readIds(join(cgroupPath, PROCS_FILE)).includes(pid)) return;
  throw readProcess(pid) === undefined
    ? new FreezerError('NO_SUCH_PROCESS', { pid })
    : new FreezerError('PLACE_FAILED', { pid, path: cgroupPath });
}

/** @throws FreezerError NO_SUCH_PROCESS, CGROUP_GONE, PLACE_FAILED with the kernel's errno as cause */
export function moveProcess(pid: number, cgroupPath: string): void {
  move(pid, cgroupPath, PROCS_FILE);
}

/** Moves one thread. v1 only: on v2 threads of a process part only inside a threaded cgroup. */
export function moveThread(tid: number, cgroupPath: string): void {
  move(tid, cgroupPath, 'tasks');
}

function move(id: number, cgroupPath: string, file: string): void {
  // The kernel takes 0 for the writer itself: a caller who mistook it would move this very process.
  requirePid(id);
  try {
    writeControl(join(cgroupPath, file), String(id));
  } catch (error) {
    if (isFreezerError(error, 'CGROUP_GONE')) throw error;
    if (errnoOf(error) === 'ESRCH') throw new FreezerError('NO_SUCH_PROCESS', { pid: id, cause: error });
    throw new FreezerError('PLACE_FAILED', { pid: id, path: cgroupPath, cause: error });
  }
}

// An ended task keeps its cgroup busy until the kernel is done with it: milliseconds, seconds under load.
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 50;

/**
 * Removes a cgroup and the empty ones below it; one that is gone already is as good.
 * @param options `timeoutMs`: how long to retry while the kernel says EBUSY, in milliseconds. Default 2000.
 * @throws FreezerError BAD_OPTION, CGROUP_BUSY with the pids in it, CGROUP_DENIED, CONTROL_FILE_FAILED
 */
export async function removeCgroup(path: string, options: { timeoutMs?: number } = {}): Promise<void> {
  requirePath('path', path);
  requireOptions<{ timeoutMs?: number }>(options, { timeoutMs: true });
  const { timeoutMs = 2000 } = options;
  const deadline = performance.now() + timeoutMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    const busy = cgroupsFrom(path)
      .reverse()
      .map(removeDirectory)
      .find((error) => error !== undefined);
    if (busy === undefined && !existsSync(path)) return;
    if (performance.now() >= deadline)
      throw new FreezerError('CGROUP_BUSY', { path, pids: pidsFrom(path), timeoutMs, cause: busy });
    await sleep(pauseMs);
  }
}

function removeDirectory(path: string): unknown {
  try {
    rmdirSync(path);
    return undefined;
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === 'ENOENT' || errno === 'ENODEV') return undefined;
    if (errno === 'EBUSY' || errno === 'ENOTEMPTY') return cause;
    throw controlError(cause, path, 'remove');
  }
}

/** The processes that have a task in the cgroup or below it. */
export function pidsFrom(path: string): number[] {
  const version: CgroupVersion = existsSync(join(path, 'tasks')) ? 1 : 2;
  const pids = [...tasksFrom(path, version).keys()].map(leaderOf);
  return [...new Set(pids.filter((pid) => pid !== undefined))];
}
