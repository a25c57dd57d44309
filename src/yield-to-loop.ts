import { setImmediate } from 'node:timers/promises';

/** How long the event loop is held before others get their turn. */
const SLICE_MS = 2;

/** Lets others have a turn when this one has lasted long enough. Returns when the current one began. */
export async function takeTurns(since: number, signal?: AbortSignal): Promise<number> {
  if (performance.now() - since < SLICE_MS) return since;
  await setImmediate();
  signal?.throwIfAborted();
  return performance.now();
}
