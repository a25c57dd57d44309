import { describe, expect, it } from 'vitest';
import { freezerVersions } from '../fixtures/cgroup.js';
import { MENDED_WITHIN_MS, Sweep } from '../root/faults/sweep.js';

const STOPS = Number(process.env.STILLFRAME_STOPS ?? 60);
/** Where the stops begin, and over how many durations of that phase they are spread. */
const PLACES = [
  ['dump', 1],
  ['freeze', 1.5],
  ['refresh', 2],
  ['start-criu', 1],
  ['freeze', 1.5],
  ['refresh', 2],
] as const;
const LIMITS = { maxFrozenMs: 400, criuStartTimeoutMs: 1500 };

describe.each(freezerVersions())('stop sweep, cgroup %s', (version) => {
  it(`criu stopped at ${STOPS} random moments`, async () => {
    await using sweep = await Sweep.start(version);
    const outcomes: Record<string, number> = {};
    const windows: number[] = [];
    for (let i = 0; i < STOPS; i++) {
      // `dump` reaches from the request to CRIU's answer, but for most of it CRIU looks at the kernel: hence two of
      // three in the window.
      const [phase, reach] = PLACES[i % PLACES.length] as (typeof PLACES)[number];
      const { outcome, windowMs } = await sweep.stop({
        ...LIMITS,
        phase,
        fraction: (reach * (i + Math.random())) / STOPS,
      });
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      if (windowMs !== undefined) windows.push(windowMs);
    }
    windows.sort((a, b) => a - b);
    console.log(
      `${version}: criu stopped ${STOPS - sweep.missed} times (no CRIU was there ${sweep.missed} times): ${JSON.stringify(outcomes)}; windows ${windows[windows.length >> 1]?.toFixed(0)} ms (median), ${windows.at(-1)?.toFixed(0)} ms (worst)`,
    );
    expect(
      Object.keys(outcomes).filter((outcome) => !['done', 'DEADLINE_EXCEEDED', 'CRIU_NOT_READY'].includes(outcome)),
    ).toEqual([]);
    expect(windows.at(-1) ?? 0).toBeLessThan(LIMITS.maxFrozenMs + MENDED_WITHIN_MS);
  });
});
