import { describe, expect, it } from 'vitest';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { REPLACE_PHASES, RESTORE_PHASES, RestoreSweep, type Victim } from './restore-sweep.js';

// The long sweep is in test/faults/: npm run test:faults
describe.each(freezerVersions())('a restore that dies, cgroup %s', (version) => {
  it('leaves nothing when it is killed at the start or in the middle of any phase', { timeout: 240_000 }, async () => {
    await using sweep = await RestoreSweep.start(version);
    for (const [i, phase] of RESTORE_PHASES.entries())
      await sweep.kill({ victim: 'owner', phase, fraction: i % 2 === 0 ? 0 : 0.5, found: i % 3 === 2 });
    for (const fraction of [0.2, 0.5, 0.8]) await sweep.kill({ victim: 'owner', phase: 'restore', fraction });
  });

  it(
    'leaves nothing when CRIU is killed with it, nor after recover when its guardian is',
    { timeout: 240_000 },
    async () => {
      await using sweep = await RestoreSweep.start(version);
      await sweep.kill({ victim: 'owner and criu', phase: 'restore', fraction: 0.5 });
      await sweep.kill({ victim: 'owner and guardian', phase: 'verify', fraction: 0.5 });
      await sweep.kill({ victim: 'owner and guardian', phase: 'extract', fraction: 0.5 });
      await sweep.kill({ victim: 'owner and guardian', phase: 'restore', fraction: 0.6, found: true });
      await sweep.kill({ victim: 'all three', phase: 'restore', fraction: 0.7 });
      expect(sweep.finished).toBeLessThan(4);
    },
  );

  it('leaves the old files in their place, or the new ones and a tree that runs', { timeout: 300_000 }, async () => {
    await using sweep = await RestoreSweep.start(version);
    for (const [i, phase] of REPLACE_PHASES.entries()) {
      const replaces = i % 2 === 0 ? 'keep' : 'remove';
      await sweep.kill({ victim: 'owner', phase, fraction: 0, found: i % 3 === 0, replaces });
      const victim: Victim = i % 2 === 0 ? 'owner and guardian' : 'all three';
      await sweep.kill({ victim, phase, fraction: 0.4, replaces: replaces === 'keep' ? 'remove' : 'keep' });
    }
    // Those that were killed when it was finished, and only the old files were left to be seen to.
    expect(sweep.finished).toBeGreaterThan(0);
    expect(sweep.finished).toBeLessThan(REPLACE_PHASES.length);
  });
});
