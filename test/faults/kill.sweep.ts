import { describe, expect, it } from 'vitest';
import { freezerVersions } from '../fixtures/cgroup.js';
import { evenly, MENDED_WITHIN_MS, Sweep, type Victim } from '../root/faults/sweep.js';

const KILLS: Record<Victim, number> = { owner: 100, criu: 30, 'owner and criu': 20, 'owner and guardian': 20, 'all three': 20 };

describe.each(freezerVersions())('kill sweep, cgroup %s', (version) => {
  it.each(Object.keys(KILLS) as Victim[])('%s', async (victim) => {
    await using sweep = await Sweep.start(version);
    const mendedMs: number[] = [];
    for (const kill of evenly(victim, KILLS[victim])) mendedMs.push(await sweep.kill(kill));
    mendedMs.sort((a, b) => a - b);
    console.log(`${version}: ${victim} killed ${mendedMs.length} times; right again after ${mendedMs[mendedMs.length >> 1]?.toFixed(0)} ms (median), ${mendedMs.at(-1)?.toFixed(0)} ms (worst)`);
    expect(mendedMs.at(-1)).toBeLessThan(MENDED_WITHIN_MS);
  });
});
