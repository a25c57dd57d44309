import { expect, it } from 'vitest';
import { freezerVersions, type Version } from '../../fixtures/cgroup.js';
import { fillUp, type Place } from './full-disk.js';

// Forty sizes for each are in test/faults/: npm run test:faults
it.each<Place>(['images', 'output', 'both'])(
  'a disk that runs full leaves no part of an archive, and nothing frozen: %s',
  { timeout: 120_000 },
  async (place) => {
    const { succeeded, failed, codes } = await fillUp(freezerVersions()[0] as Version, place, 5);
    expect(failed).toBeGreaterThan(0);
    expect(succeeded, `the largest is enough (${[...codes].join(', ')})`).toBeGreaterThan(0);
  },
);
