import { setImmediate as immediate } from 'node:timers/promises';
import type { UnfrozenTask } from './freezer-error.js';
import { tasksFrom } from './hierarchy.js';
import type { FreezerMechanism } from './mechanism.js';
import { leaderOf, parseStat, readProc } from '../proc/task.js';

// Reading one task costs some 50 microseconds: a slice stays well below the event loop's few milliseconds.
const SLICE = 32;

/** The tasks of a cgroup (and below) that seem not to be frozen, while the wish to freeze it stands. */
export async function unfrozenTasks(path: string, mechanism: FreezerMechanism): Promise<UnfrozenTask[]> {
  const found: UnfrozenTask[] = [];
  let looked = 0;
  for (const tid of tasksFrom(path, mechanism.version).keys()) {
    const task = readTask(tid);
    if (task !== undefined && mechanism.looksUnfrozen(task)) found.push(task);
    if (++looked % SLICE === 0) await immediate();
  }
  return found;
}

/**
 * Of the suspects, those that a thaw has not set free: a task that was frozen in the middle of a sleep shows
 * state D only while frozen. All of them when none is left, since one of them it must have been.
 */
export function stillBlocked(suspects: readonly UnfrozenTask[]): UnfrozenTask[] {
  const blocked = suspects.filter((task) => task.state !== 'D' || readTask(task.tid)?.state === 'D');
  return blocked.length === 0 ? [...suspects] : blocked;
}

function readTask(tid: number): UnfrozenTask | undefined {
  const stat = readProc(`${tid}/stat`);
  if (stat === undefined) return undefined;
  const { name, state } = parseStat(stat);
  const wchan = readProc(`${tid}/wchan`) ?? '';
  const stack = (readProc(`${tid}/stack`) ?? '')
    .split('\n')
    .map((line) => line.replace(/^\[<[^>]*>\] /, ''))
    .filter((line) => line !== '');
  return { pid: leaderOf(tid) ?? tid, tid, name, state, wchan: wchan === '0' ? '' : wchan, stack };
}
