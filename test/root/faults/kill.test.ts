import { describe, expect, it } from 'vitest';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { evenly, MENDED_WITHIN_MS, Sweep } from './sweep.js';

// The long sweep is in test/faults/: npm run test:faults
describe.concurrent.each(freezerVersions())('whatever dies, cgroup %s', (version) => {
  it(
    'nothing stays frozen or behind when the embedding process is killed in any phase',
    { timeout: 300_000 },
    async ({ onTestFinished }) => {
      await using sweep = await Sweep.start(version);
      onTestFinished(() => sweep[Symbol.asyncDispose]());
      for (const kill of evenly('owner', 11)) expect(await sweep.kill(kill)).toBeLessThan(MENDED_WITHIN_MS);
    },
  );

  it(
    'an adopted tree is given back when the embedding process is killed',
    { timeout: 300_000 },
    async ({ onTestFinished }) => {
      await using sweep = await Sweep.start(version, { adopt: true });
      onTestFinished(() => sweep[Symbol.asyncDispose]());
      for (const phase of ['adopt', 'freeze', 'dump'] as const)
        expect(await sweep.kill({ victim: 'owner', phase, fraction: 0.5 })).toBeLessThan(MENDED_WITHIN_MS);
    },
  );
});
