/** Checkpoints onto small file systems: full at any size, the archive is whole or it does not exist. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { expect } from 'vitest';
import { StillframeError } from '../../../src/errors.js';
import { openFreezer } from '../../../src/cgroup/index.js';
import { checkpoint } from '../../../src/checkpoint/checkpoint.js';
import { verify } from '../../../src/checkpoint/inspect.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import type { Version } from '../../fixtures/cgroup.js';

export type Place = 'images' | 'output' | 'both';

export interface FullDiskResult {
  succeeded: number;
  failed: number;
  /** The codes of the failures. */
  codes: Set<string>;
}

/** `steps` sizes, evenly from almost nothing to more than the checkpoint needs. */
export async function fillUp(version: Version, place: Place, steps: number): Promise<FullDiskResult> {
  await using writer = await BusyWriter.start(version, { memoryMiB: 2 });
  const neededBytes = 2.5 * (await archiveBytes(writer));
  const result: FullDiskResult = { succeeded: 0, failed: 0, codes: new Set() };
  for (let step = 1; step <= steps; step++) {
    const error = await onSmallDisk(writer, place, Math.ceil((neededBytes * step) / steps / 4096) * 4);
    if (error === undefined) result.succeeded++;
    else {
      result.failed++;
      result.codes.add(error.code);
    }
  }
  return result;
}

async function archiveBytes(writer: BusyWriter): Promise<number> {
  const output = writer.path('measure.tar');
  const report = await checkpoint({ ...targetOf(writer), output });
  rmSync(output);
  return report.archiveBytes;
}

async function onSmallDisk(writer: BusyWriter, place: Place, kilobytes: number): Promise<StillframeError | undefined> {
  const disk = writer.path('disk');
  mkdirSync(disk);
  const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${kilobytes}k`, 'tmpfs', disk]);
  if (mount.status !== 0) throw new Error(`needs a tmpfs: ${String(mount.stderr)}`);
  try {
    const output = place === 'images' ? writer.path('out.tar') : `${disk}/out.tar`;
    const workDir = place === 'output' ? writer.scratch : disk;
    const error = await checkpoint({ ...targetOf(writer), output, workDir }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    const what = `${place}, ${kilobytes} kB`;
    expect(openFreezer({ cgroup: writer.cgroup.path }).state(), what).toMatchObject({
      selfFrozen: false,
      frozen: false,
    });
    expect(await writer.isWell(), what).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(
      readdirSync(disk).filter((name) => name !== 'out.tar'),
      what,
    ).toEqual([]);
    expect(
      writer.leftovers().filter((name) => name !== 'out.tar' && name !== 'disk'),
      what,
    ).toEqual([]);
    if (error === undefined) await verify(output);
    else {
      expect(error, what).toBeInstanceOf(StillframeError);
      expect(existsSync(output), what).toBe(false);
    }
    rmSync(output, { force: true });
    return error as StillframeError | undefined;
  } finally {
    spawnSync('umount', [disk]);
    rmSync(disk, { recursive: true, force: true });
  }
}

function targetOf(writer: BusyWriter): { pid: number; cgroup: string; files: { path: string; name: string }[] } {
  return { pid: writer.pid, cgroup: writer.cgroup.path, files: [{ path: writer.data, name: 'data' }] };
}
