/** What takes the images or the archive fails in the middle of a checkpoint. */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openFreezer } from '../../../src/cgroup/index.js';
import { checkpoint } from '../../../src/checkpoint/checkpoint.js';
import { readJournals } from '../../../src/checkpoint/guardian/journal.js';
import { STATE_DIR } from '../../../src/state-dir.js';
import type { CheckpointOptions } from '../../../src/checkpoint/options.js';
import type { Phase } from '../../../src/checkpoint/events/phases.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions, type Version } from '../../fixtures/cgroup.js';
import { FailingDisk } from './failing-disk.js';

type Moment = `${Phase} ${'start' | 'end'}`;

/** Before CRIU, before it writes, while it writes, when it has written all, and when it is read. */
const MOMENTS: Moment[] = ['start-criu end', 'freeze end', 'refresh end', 'dump end', 'seal start'];

/** A checkpoint in which the disk fails at that moment; its error, once everything that must hold has been seen to hold. */
async function failing(
  version: Version,
  moment: Moment,
  fail: (disk: FailingDisk) => void,
  place: (disk: FailingDisk, writer: BusyWriter) => Pick<CheckpointOptions, 'output' | 'workDir'>,
  left: RegExp,
): Promise<unknown> {
  await using writer = await BusyWriter.start(version, { memoryMiB: 4 });
  using disk = new FailingDisk(writer.scratch);
  mkdirSync(join(disk.path, 'out'));
  let done = false;
  const onProgress: CheckpointOptions['onProgress'] = ({ phase, at }) => {
    if (done || `${phase} ${at}` !== moment) return;
    done = true;
    fail(disk);
  };
  const target = { pid: writer.pid, cgroup: writer.cgroup.path, files: [{ path: writer.data, name: 'data' }] };
  const error: unknown = await checkpoint({ ...target, ...place(disk, writer), onProgress }).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(done, `the checkpoint came to: ${moment}`).toBe(true);
  expect(openFreezer({ cgroup: writer.cgroup.path }).state()).toMatchObject({ selfFrozen: false, frozen: false });
  expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  expect(writer.leftovers()).toEqual(['disk', 'disk.img']);
  expect(readdirSync(disk.path).filter((name) => name !== 'lost+found' && !left.test(name))).toEqual([]);
  expect(readJournals(STATE_DIR).filter(({ entry }) => entry.target?.pid === writer.pid)).toEqual([]);
  return error;
}

/** CRIU may be making files in it at this moment: then it is not empty although all that was found in it is gone. */
function removeWhileCriuWrites(directory: string): void {
  for (;;) {
    try {
      return rmSync(directory, { recursive: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
    }
  }
}

describe.each(freezerVersions())('the place of the images fails, cgroup %s', (version) => {
  const imagesThere = (disk: FailingDisk, writer: BusyWriter): Pick<CheckpointOptions, 'output' | 'workDir'> => ({
    output: writer.path('out.tar'),
    workDir: disk.path,
  });

  it.each(MOMENTS)(
    'its disk is dead (%s): both errors come out, for its directory cannot be removed',
    async (moment) => {
      const error = await failing(
        version,
        moment,
        (disk) => disk.die(),
        imagesThere,
        /^(out|\.stillframe-[0-9a-f]{16})$/,
      );
      expect(error).toMatchObject({
        code: 'LEFT_BEHIND',
        cause: { errors: [{ code: 'IMAGES_FAILED', facts: { reason: 'EIO' } }, { code: 'EIO' }] },
      });
    },
  );

  it.each(MOMENTS)('somebody removes the directory (%s)', async (moment) => {
    const remove = (disk: FailingDisk): void => {
      for (const name of readdirSync(disk.path))
        if (name.startsWith('.stillframe-')) removeWhileCriuWrites(join(disk.path, name));
    };
    expect(await failing(version, moment, remove, imagesThere, /^out$/)).toMatchObject({
      code: 'IMAGES_FAILED',
      facts: { reason: 'ENOENT' },
    });
  });

  it('others fill its disk', async () => {
    const fill = (disk: FailingDisk): void => {
      const fd = openSync(join(disk.path, 'out', 'others'), 'w');
      for (const size of [1 << 20, 4096]) {
        try {
          for (;;) writeSync(fd, Buffer.alloc(size));
        } catch {
          // full, but for less than that
        }
      }
      closeSync(fd);
    };
    expect(await failing(version, 'freeze end', fill, imagesThere, /^out$/)).toMatchObject({ code: 'IMAGES_FULL' });
  });
});

// CRIU runs in another mount namespace than the tree here, and so dumps all of the tree's.
describe.each(freezerVersions())('/dev/shm, cgroup %s', (version) => {
  /** A program in a mount namespace of its own, where /dev/shm is so large. */
  async function withSharedMemory(
    writer: BusyWriter,
    mebibytes: number,
    fill?: { phase: Phase; at: 'start' | 'end'; path: string },
  ): Promise<{ said: string; left: string[] }> {
    const options = {
      pid: writer.pid,
      cgroup: writer.cgroup.path,
      files: [{ path: writer.data, name: 'data' }],
      output: writer.path('out.tar'),
    };
    const mountAndRun = `mount -t tmpfs -o size=${mebibytes}m tmpfs /dev/shm && "$@"; ls -A /dev/shm | sed 's/^/left /'`;
    const child = spawn(
      'unshare',
      [
        '--mount',
        'sh',
        '-c',
        mountAndRun,
        'sh',
        process.execPath,
        fileURLToPath(new URL('victim.mjs', import.meta.url)),
        JSON.stringify({ options, fill }),
      ],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    let said = '';
    child.stdout.on('data', (text) => (said += String(text)));
    child.stdin.end('go\n');
    await new Promise((resolve) => child.once('close', resolve));
    return { said, left: [...said.matchAll(/^left (.*)$/gm)].map((match) => match[1] as string) };
  }

  it('that is too small is passed over', async () => {
    await using writer = await BusyWriter.start(version, { memoryMiB: 4, inOwnMounts: true });
    expect(await withSharedMemory(writer, 1)).toEqual({ said: expect.stringMatching(/^done$/m), left: [] });
    expect(existsSync(writer.path('out.tar'))).toBe(true);
  });

  it('that others fill in the window: no archive, nothing of ours in it, and the tree runs on', async () => {
    await using writer = await BusyWriter.start(version, { memoryMiB: 4, inOwnMounts: true });
    const { bavail, bsize } = statfsSync('/dev/shm');
    const mebibytes = Math.min(256, Math.floor((bavail * bsize) / 2 ** 20));
    const { said, left } = await withSharedMemory(writer, mebibytes, {
      phase: 'freeze',
      at: 'end',
      path: '/dev/shm/others',
    });
    expect(said).toMatch(/^failed IMAGES_FULL/m);
    expect(left).toEqual(['others']);
    expect(writer.leftovers()).toEqual([]);
    expect(openFreezer({ cgroup: writer.cgroup.path }).state()).toMatchObject({ selfFrozen: false, frozen: false });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });
});

describe('the place of the archive fails', () => {
  const version = freezerVersions()[0] as Version;
  const archiveThere = (disk: FailingDisk): Pick<CheckpointOptions, 'output' | 'workDir'> => ({
    output: join(disk.path, 'out', 'out.tar'),
  });
  const streamThere = (disk: FailingDisk): Pick<CheckpointOptions, 'output' | 'workDir'> => ({
    output: new PassThrough().on('error', () => undefined).resume(),
    workDir: disk.path,
  });

  it.each(MOMENTS)('its disk is dead (%s)', async (moment) => {
    expect(await failing(version, moment, (disk) => disk.die(), archiveThere, /^out$/)).toMatchObject({
      code: 'OUTPUT_FAILED',
      cause: { code: 'EIO' },
    });
  });

  it.each(MOMENTS)('its file system becomes read-only (%s)', async (moment) => {
    expect(await failing(version, moment, (disk) => disk.becomeReadOnly(), archiveThere, /^out$/)).toMatchObject({
      code: 'OUTPUT_FAILED',
      cause: { code: 'EROFS' },
    });
  });

  it.each(MOMENTS)('its directory takes no new names (%s)', async (moment) => {
    const fail = (disk: FailingDisk): void => void execFileSync('chattr', ['+i', join(disk.path, 'out')]);
    expect(await failing(version, moment, fail, archiveThere, /^out$/)).toMatchObject({
      code: 'OUTPUT_FAILED',
      cause: { code: 'EPERM' },
    });
  });

  it.each(MOMENTS)('its directory is removed (%s)', async (moment) => {
    expect(
      await failing(
        version,
        moment,
        (disk) => rmSync(join(disk.path, 'out'), { recursive: true }),
        archiveThere,
        /^out$/,
      ),
    ).toMatchObject({ code: 'OUTPUT_FAILED', cause: { code: 'ENOENT' } });
  });

  it('the disk is dead on which the archive of a stream is staged', async () => {
    const error = await failing(version, 'seal start', (disk) => disk.die(), streamThere, /^(out|\.stillframe-.*)$/);
    expect(error).toMatchObject({ code: expect.stringMatching(/^(OUTPUT_FAILED|LEFT_BEHIND)$/) });
  });
});
