import { describe, expect, it } from 'vitest';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { RESTORE_PHASES, RestoreSweep } from './restore-sweep.js';

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
      await sweep.kill({ victim: 'owner and guardian', phase: 'extract', fraction: 0.5 });
      await sweep.kill({ victim: 'owner and guardian', phase: 'restore', fraction: 0.6, found: true });
      await sweep.kill({ victim: 'all three', phase: 'restore', fraction: 0.7 });
      expect(sweep.finished).toBeLessThan(4);
    },
  );
});
