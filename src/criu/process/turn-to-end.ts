import { atOnce } from './start-in-turn.js';

/** One that takes its time, as when it has work to undo, keeps the others waiting no longer than this. */
const longestMs = 50;

let ending = 0;
const waiting: (() => void)[] = [];

/**
 * For CRIUs that hold nothing. Resolves once fewer of them than that are ending, in the order of the calls; at once when no other
 * is. The caller then ends its own. What a process frees when it ends is some milliseconds' work for a core, and fifty together
 * kept the event loop waiting for one: see start-in-turn.ts.
 */
export async function turnToEnd(ended: Promise<unknown>): Promise<void> {
  if (ending < atOnce) ending++;
  else await new Promise<void>((resolve) => waiting.push(resolve));
  let isOver = false;
  const handOn = (): void => {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    const next = waiting.shift();
    if (next === undefined) ending--;
    else next();
  };
  const timer = setTimeout(handOn, longestMs);
  void ended.then(handOn);
}
