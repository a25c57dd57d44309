import { describe, expect, it } from 'vitest';
import { freezerVersions } from '../fixtures/cgroup.js';
import { CLONE_PHASES, CLONE_VICTIMS, CloneSweep } from '../root/faults/clone-sweep.js';

const KILLS = 30;
/** There the most happens. */
const OF_THEM_IN_RESTORE = 0.5;

describe.each(freezerVersions())('kill sweep of copies, cgroup %s', (version) => {
  it.each(CLONE_VICTIMS)('%s', async (victim) => {
    await using sweep = await CloneSweep.start(version);
    for (let i = 0; i < KILLS; i++) {
      const phase = Math.random() < OF_THEM_IN_RESTORE ? 'restore' : CLONE_PHASES[i % CLONE_PHASES.length]!;
      await sweep.kill({ victim, phase, fraction: Math.random() });
    }
    console.log(
      `${version}: ${victim} killed ${KILLS} times; nothing to kill: ${sweep.missed}; ran all the same: ${sweep.ran}`,
    );
    expect(sweep.ran).toBeLessThanOrEqual(KILLS);
  });
});
