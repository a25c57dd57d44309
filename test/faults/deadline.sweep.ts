import { rmSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openFreezer } from '../../src/cgroup/index.js';
import { checkpoint } from '../../src/checkpoint/checkpoint.js';
import type { WindowEvent } from '../../src/checkpoint/events/phases.js';
import { StillframeError } from '../../src/errors.js';
import { BusyWriter } from '../fixtures/busy-writer.js';
import { freezerVersions } from '../fixtures/cgroup.js';
import { MENDED_WITHIN_MS } from '../root/faults/sweep.js';

const CHECKPOINTS = Number(process.env.STILLFRAME_DEADLINES ?? 150);
/**
 * CRIU learns of the end at its next message, which may come when all memory is written, and then undoes what it did.
 */
const BOUND_MS = MENDED_WITHIN_MS;
/** Longer than that, and something waited for CRIU's ten seconds of grace: a fault of ours, not of a busy machine. */
const NEVER_MS = 8000;
/** From less than any freeze takes to more than a whole window does. */
const LONGEST_MS = 400;

describe.each(freezerVersions())('deadlines, cgroup %s', (version) => {
  it(`${CHECKPOINTS} checkpoints with a random maxFrozenMs end thawed`, async () => {
    await using writer = await BusyWriter.start(version, { memoryMiB: 16 });
    const output = writer.path('out.tar');
    /** By how much the cancelled ones were longer. */
    const late: number[] = [];
    let dumped = 0;
    for (let i = 0; i < CHECKPOINTS; i++) {
      const maxFrozenMs = 1 + Math.random() * LONGEST_MS;
      const windows: WindowEvent[] = [];
      const onWindow = (event: WindowEvent): void => void windows.push(event);
      const error: unknown = await checkpoint({
        pid: writer.pid,
        cgroup: writer.cgroup.path,
        files: [{ path: writer.data, name: 'data' }],
        output,
        maxFrozenMs,
        retries: 0,
        onWindow,
      }).then(
        () => undefined,
        (e: unknown) => e,
      );
      if (error === undefined) {
        dumped++;
        rmSync(output);
      } else {
        expect(error).toBeInstanceOf(StillframeError);
        expect((error as StillframeError).code).toBe('DEADLINE_EXCEEDED');
      }
      expect(openFreezer({ cgroup: writer.cgroup.path }).state()).toMatchObject({ selfFrozen: false, frozen: false });
      expect(windows).toHaveLength(1);
      const { windowMs } = windows[0] as WindowEvent;
      if (error !== undefined) late.push(windowMs - maxFrozenMs);
      expect(windowMs, `maxFrozenMs ${maxFrozenMs}`).toBeLessThan(maxFrozenMs + NEVER_MS);
      expect(writer.leftovers()).toEqual([]);
    }
    late.sort((a, b) => a - b);
    console.log(
      `${version}: ${CHECKPOINTS - late.filter((ms) => ms > BOUND_MS).length} of ${CHECKPOINTS} windows closed within maxFrozenMs + ${BOUND_MS} ms (${dumped} whole checkpoints, ${CHECKPOINTS - dumped} cancelled); of those the window was longer than maxFrozenMs by ${late[late.length >> 1]?.toFixed(0)} ms (median), ${late.at(-1)?.toFixed(0)} ms (worst)`,
    );
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });
});
