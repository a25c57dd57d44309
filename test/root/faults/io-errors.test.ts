/** A disk that takes writes into memory and loses them on the way to the medium: only a sync tells. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFreezer } from '../../../src/cgroup/index.js';
import { checkpoint } from '../../../src/checkpoint/checkpoint.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';

/** ext4 on a loop device whose backing file has room for 8 MiB of the 64 that it promises. */
function mountLosingDisk(under: string): { path: string } & Disposable {
  const [backing, path] = [join(under, 'backing'), join(under, 'losing')];
  const disk = join(backing, 'disk');
  const run = (command: string, ...args: string[]): void => {
    const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`needs loop devices and mkfs.ext4: ${command} ${args.join(' ')}: ${stderr}`);
  };
  mkdirSync(backing);
  mkdirSync(path);
  run('mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', backing);
  try {
    writeFileSync(disk, '');
    truncateSync(disk, 64 << 20);
    run('mkfs.ext4', '-q', '-O', '^has_journal', '-E', 'lazy_itable_init=1', disk);
    run('mount', '-o', 'loop', disk, path);
  } catch (error) {
    spawnSync('umount', [backing]);
    throw error;
  }
  return {
    path,
    [Symbol.dispose]: () => {
      for (const mounted of [path, backing]) spawnSync('umount', [mounted]);
    },
  };
}

describe.each(freezerVersions())('a disk that loses writes, cgroup %s', (version) => {
  it('gets no archive, and the tree runs on', async () => {
    await using writer = await BusyWriter.start(version, { memoryMiB: 16 });
    using disk = mountLosingDisk(writer.scratch);
    const output = join(disk.path, 'out.tar');
    const work = checkpoint({ pid: writer.pid, cgroup: writer.cgroup.path, files: [{ path: writer.data, name: 'data' }], output });
    // The kernel reports what the medium said, or that there was an error at all.
    await expect(work).rejects.toMatchObject({ code: expect.stringMatching(/^OUTPUT_(FULL|FAILED)$/), cause: { code: expect.stringMatching(/^(ENOSPC|EIO|EROFS)$/) } });
    expect(existsSync(output)).toBe(false);
    expect(readdirSync(disk.path).filter((name) => name !== 'lost+found')).toEqual([]);
    expect(openFreezer({ cgroup: writer.cgroup.path }).state()).toMatchObject({ selfFrozen: false, frozen: false });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });
});
