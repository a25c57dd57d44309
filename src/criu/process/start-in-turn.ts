import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/**
 * How many CRIUs begin at once: one for each core but one, which is the event loop's. A CRIU computes for some 5 ms before it
 * waits for its first request; fifty on two cores kept the loop waiting for a core 15 to 20 ms in one turn, of which its own
 * work was less than one (/proc/self/task/TID/schedstat: run delay; Linux 6.18).
 */
export const atOnce = Math.max(1, availableParallelism() - 1);
/** Nobody waits longer for one that goes on computing. */
const longestMs = 1000;

let starting = 0;
/** Those that run already, and until when they count at most. */
const begun = new Map<number, number>();
const waiting: (() => void)[] = [];

/**
 * Starts it once there is a place, in the order of the calls; at once when nobody else starts a CRIU.
 * @param start is told whether it is the only one for now
 */
export async function startInTurn<T extends { pid: number; ended: Promise<unknown> }>(
  start: (alone: boolean) => Promise<T>,
): Promise<T> {
  forgetThoseThatWait();
  const alone = starting + begun.size === 0;
  if (waiting.length > 0 || !takePlace())
    await new Promise<void>((resolve) => waiting.push(resolve) === 1 && setTimeout(handOn, 1));
  try {
    const process = await start(alone);
    begun.set(process.pid, performance.now() + longestMs);
    void process.ended.then(() => begun.delete(process.pid));
    return process;
  } finally {
    starting--;
  }
}

function takePlace(): boolean {
  if (starting + begun.size >= atOnce) return false;
  starting++;
  return true;
}

/** Nothing tells when a process begins to wait: somebody has to look, but only while others want its place. */
function handOn(): void {
  forgetThoseThatWait();
  if (takePlace()) waiting.shift()?.();
  if (waiting.length > 0) setTimeout(handOn, 1);
}

function forgetThoseThatWait(): void {
  for (const [pid, until] of begun) if (performance.now() > until || !computes(pid)) begun.delete(pid);
}

/** Runs or reads from a disk, by its state in /proc/PID/stat, behind the name. */
function computes(pid: number): boolean {
  try {
    return /^[RD]/.test(readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /s, ''));
  } catch {
    return false; // it has ended
  }
}
