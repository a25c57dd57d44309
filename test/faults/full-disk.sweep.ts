import { describe, expect, it } from 'vitest';
import { freezerVersions } from '../fixtures/cgroup.js';
import { fillUp, type Place } from '../root/faults/full-disk.js';

describe.each(freezerVersions())('full disks, cgroup %s', (version) => {
  it.each<Place>(['images', 'output', 'both'])('%s', async (place) => {
    const { succeeded, failed, codes } = await fillUp(version, place, 40);
    console.log(
      `${version}: ${place} on 40 sizes: ${succeeded} whole archives, ${failed} refusals (${[...codes].join(', ')})`,
    );
    expect(failed).toBeGreaterThan(0);
    expect(succeeded).toBeGreaterThan(0);
  });
});
