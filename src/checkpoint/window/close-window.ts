import type { Phases, WindowEvent } from '../events/phases.js';
import type { FrozenWindow } from './frozen-window.js';
import type { PartClock } from './part-clock.js';

/** A window, started on its clock, and whose it is. */
export interface TimedWindow {
  pid: number | undefined;
  window: FrozenWindow;
  clock: PartClock<'thawMs'>;
  phases: Phases;
}

/**
 * Closes the window, the phase `thaw` of its operation, and tells of it.
 * @throws FreezerError
 */
export async function closeWindow(
  { pid, window, clock, phases }: TimedWindow,
  outcome: Exclude<WindowEvent['outcome'], 'failed'>,
): Promise<void> {
  await phases.run('thaw', () => window.close());
  clock.mark('thawMs');
  phases.window({ pid, cgroup: window.cgroup, windowMs: clock.totalMs, outcome });
}

/**
 * The same after a failure, if the window has been opened.
 * @throws CheckpointError LEFT_FROZEN
 */
export async function closeFailedWindow({ pid, window, clock, phases }: TimedWindow, error: unknown): Promise<void> {
  if (!window.isOpen) return;
  await phases.run('thaw', () => window.closeAfter(error));
  phases.window({ pid, cgroup: window.cgroup, windowMs: clock.sinceStartMs, outcome: 'failed', error });
}
