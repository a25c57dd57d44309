import { describe, expect, it } from 'vitest';
import { freezerVersions } from '../fixtures/cgroup.js';
import { REPLACE_PHASES, RESTORE_PHASES, RestoreSweep, type Victim } from '../root/faults/restore-sweep.js';

const KILLS: Record<Victim, number> = { owner: 56, 'owner and criu': 28, 'owner and guardian': 28, 'all three': 28 };
/** There the most happens. */
const OF_THEM_IN_RESTORE = 0.5;

const cases = (Object.keys(KILLS) as Victim[]).flatMap((victim) =>
  ([undefined, 'keep', 'remove'] as const).map((replaces) => ({ victim, replaces })),
);

describe.each(freezerVersions())('kill sweep of restores, cgroup %s', (version) => {
  it.each(cases)('$victim, files that are replaced: $replaces', async ({ victim, replaces }) => {
    await using sweep = await RestoreSweep.start(version);
    const phases = replaces === undefined ? RESTORE_PHASES : REPLACE_PHASES;
    const mendedMs: number[] = [];
    for (let i = 0; i < KILLS[victim]; i++) {
      const phase = Math.random() < OF_THEM_IN_RESTORE ? 'restore' : phases[i % phases.length]!;
      mendedMs.push(
        await sweep.kill({
          victim,
          phase,
          fraction: Math.random(),
          found: i % 3 === 0,
          ...(replaces === undefined ? {} : { replaces }),
        }),
      );
    }
    mendedMs.sort((a, b) => a - b);
    console.log(
      `${version}: ${victim} killed ${mendedMs.length} times in a restore (replaces: ${replaces ?? 'nothing'}); right after ${mendedMs[mendedMs.length >> 1]?.toFixed(0)} ms (median), ${mendedMs.at(-1)?.toFixed(0)} ms (worst); restored all the same: ${sweep.finished}`,
    );
    expect(mendedMs.length).toBe(KILLS[victim]);
  });
});
