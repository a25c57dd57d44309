import { describe, expect, it } from 'vitest';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { CLONE_PHASES, CLONE_VICTIMS, CloneSweep } from './clone-sweep.js';

// The long sweep is in test/faults/: npm run test:faults
describe.each(freezerVersions())('a copy whose making is killed, cgroup %s', (version) => {
  it('is gone, or runs whole', { timeout: 590_000 }, async () => {
    await using sweep = await CloneSweep.start(version);
    let kills = 0;
    for (const phase of CLONE_PHASES) await sweep.kill({ victim: 'owner', phase, fraction: 0 });
    for (const victim of CLONE_VICTIMS) {
      for (const fraction of [0.3, 0.9]) await sweep.kill({ victim, phase: 'restore', fraction });
      await sweep.kill({ victim, phase: CLONE_PHASES[kills++ % CLONE_PHASES.length]!, fraction: 0.5 });
    }
    expect(sweep.missed).toBeLessThan(CLONE_VICTIMS.length * 2);
  });
});
