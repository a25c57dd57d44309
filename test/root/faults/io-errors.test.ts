/** A disk that takes writes into memory and loses them on the way to the medium: only a sync tells. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFreezer } from '../../../src/cgroup/index.js';
import { checkpoint } from '../../../src/checkpoint/checkpoint.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { mountLosingDisk } from '../../fixtures/losing-disk.js';

describe.each(freezerVersions())('a disk that loses writes, cgroup %s', (version) => {
  it('gets no archive, and the tree runs on', async () => {
    await using writer = await BusyWriter.start(version, { memoryMiB: 16 });
    using disk = mountLosingDisk(writer.scratch);
    const output = join(disk.path, 'out.tar');
    const work = checkpoint({
      pid: writer.pid,
      cgroup: writer.cgroup.path,
      files: [{ path: writer.data, name: 'data' }],
      output,
    });
    // The kernel reports what the medium said, or that there was an error at all.
    await expect(work).rejects.toMatchObject({
      code: expect.stringMatching(/^OUTPUT_(FULL|FAILED)$/),
      cause: { code: expect.stringMatching(/^(ENOSPC|EIO|EROFS)$/) },
    });
    expect(existsSync(output)).toBe(false);
    expect(readdirSync(disk.path).filter((name) => name !== 'lost+found')).toEqual([]);
    expect(openFreezer({ cgroup: writer.cgroup.path }).state()).toMatchObject({ selfFrozen: false, frozen: false });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });
});
