import { readdirSync } from 'node:fs';
import { CheckpointError, type PidHolder } from '../base/checkpoint-error.js';
import { pause } from '../../when-aborted.js';
import { leaderOf, readProcess, type ProcessInfo } from '../../proc/task.js';

const POLL_MS = 20;

/**
 * Waits until none of the process ids is in use. A killed process keeps its pid, its group's and its
 * session's id until it is reaped, and CRIU's restore then ends in `Can't fork for PID: File exists`.
 * @param timeoutMs Milliseconds to wait for.
 * @throws CheckpointError PIDS_TAKEN, naming who holds which; the signal's reason when it is aborted.
 */
export async function waitForPids(pids: readonly number[], timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const holders = pidHolders(pids);
    if (holders.length === 0) return;
    if (performance.now() >= deadline) throw new CheckpointError('PIDS_TAKEN', { holders, timeoutMs });
    await pause(POLL_MS, signal);
  }
}

/** A zombie is its parent's to reap, which may never do so. It cannot while other threads of the process run. */
function reaper({ state, ppid, threadCount }: ProcessInfo): Pick<PidHolder, 'parent'> {
  if (state !== 'Z' || threadCount > 1) return {};
  return { parent: { pid: ppid, name: readProcess(ppid)?.name ?? '?' } };
}

/** Who holds any of these ids as a process, thread, process group or session. */
export function pidHolders(pids: readonly number[]): PidHolder[] {
  const holders: PidHolder[] = [];
  for (const pid of pids) {
    // A thread's id has a directory too, though /proc does not list it.
    const task = readProcess(pid);
    if (task === undefined) continue;
    const { name, state } = task;
    const leader = leaderOf(pid) ?? pid;
    if (leader === pid) holders.push({ pid, holder: pid, as: 'process', name, state, ...reaper(task) });
    else holders.push({ pid, holder: leader, as: 'thread', name, state });
  }
  const taken = new Set(holders.map((h) => h.pid));
  const wanted = new Set(pids.filter((pid) => !taken.has(pid)));
  if (wanted.size === 0) return holders;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const task = readProcess(Number(name));
    if (task === undefined) continue;
    const as = wanted.has(task.session) ? 'session' : wanted.has(task.group) ? 'process group' : undefined;
    if (as !== undefined)
      holders.push({
        pid: as === 'session' ? task.session : task.group,
        holder: Number(name),
        as,
        name: task.name,
        state: task.state,
        ...reaper(task),
      });
  }
  return holders;
}
