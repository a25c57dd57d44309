/**
 * A container runtime's restore loses the locks on mapped files, unless it is Stillframe that has it restore: that is
 * said before and after, or refused.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import { inspect, type Warning } from '../../../src/index.js';
import { Bundle, makeImage, newId, RuncContainer } from '../../fixtures/container.js';
import { addLockFiles, LOCKED, locksOnMapped } from '../../fixtures/lock-files.js';
import { until } from '../../fixtures/processes.js';

const LONG = { timeout: 180_000 };

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
  addLockFiles(image);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const locksLost = (warnings: readonly Warning[]): unknown =>
  warnings.find(({ code }) => code === 'LOCKS_LOST')?.facts ?? 'no warning';

const theLock = (pid: number): unknown => ({
  restoredBy: 'runtime',
  locks: [
    {
      pid,
      fd: expect.any(Number) as number,
      path: '/data/mapped',
      type: 'write',
      start: 8,
      length: 2,
      reason: 'mapped',
    },
  ],
});

async function running(bundle: Bundle): Promise<RuncContainer> {
  const container = await RuncContainer.run(bundle);
  expect(await until(() => existsSync(join(bundle.rootfs, 'data/ready')))).toBe(true);
  return container;
}

/** A container that was checkpointed and has ended, and where it is to be restored. */
async function archived(): Promise<{ archive: string; warnings: readonly Warning[]; pid: number }> {
  const archive = join(mkdtempSync(join(scratch, 'archive-')), 'archive.tar');
  await using bundle = new Bundle(image, { args: ['lock-files', '/data'] });
  await using container = await running(bundle);
  const { pid } = await container.state();
  const { runc, stateRoot } = { runc: container.id, stateRoot: container.stateRoot };
  const { warnings } = await checkpointContainer({ runc, stateRoot, output: archive, stop: true });
  await container.end();
  return { archive, warnings, pid };
}

it('a lock on a mapped file is warned of at the checkpoint, and set again by the restore', LONG, async () => {
  const { archive, warnings, pid } = await archived();
  expect(locksLost(warnings)).toEqual(theLock(pid));
  expect((await inspect(archive)).warnings.map(({ code }) => code)).toContain('LOCKS_LOST');

  await using bundle = new Bundle(image);
  await using restored = RuncContainer.adopt(bundle, newId(), join(bundle.dir, 'runc-state'));
  const after = await restoreContainer({
    runc: restored.id,
    stateRoot: restored.stateRoot,
    bundle: bundle.dir,
    archive,
    strict: true,
  });
  expect(after.warnings).toEqual([]);
  expect(locksOnMapped(after.pid)).toEqual(LOCKED);
  expect((await restored.state()).status).toBe('running');
});

it(
  'where no program can be run from the scratch directory, the restore warns of the lock instead, or is refused',
  LONG,
  async () => {
    const { archive } = await archived();
    const workDir = join(scratch, 'noexec');
    mkdirSync(workDir);
    expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'noexec', 'none', workDir]).status).toBe(0);
    onTestFinished(() => void spawnSync('umount', ['--lazy', workDir]));

    await using bundle = new Bundle(image);
    await using restored = RuncContainer.adopt(bundle, newId(), join(bundle.dir, 'runc-state'));
    const place = { runc: restored.id, stateRoot: restored.stateRoot, bundle: bundle.dir, archive, workDir };
    await expect(restoreContainer({ ...place, strict: true })).rejects.toMatchObject({ code: 'WARNINGS_REFUSED' });
    expect((await restored.runc('state')).status).not.toBe(0);
    const after = await restoreContainer(place);
    expect(locksLost(after.warnings)).toEqual(theLock(after.pid));
  },
);

it('strict refuses the checkpoint, and the container runs on', async () => {
  const output = join(scratch, 'strict.tar');
  await using bundle = new Bundle(image, { args: ['lock-files', '/data'] });
  await using container = await running(bundle);
  const refusal = checkpointContainer({
    runc: container.id,
    stateRoot: container.stateRoot,
    output,
    strict: true,
  });
  await expect(refusal).rejects.toMatchObject({
    code: 'WARNINGS_REFUSED',
    message: expect.stringContaining('"/data/mapped"') as string,
  });
  expect((await container.state()).status).toBe('running');
  expect(existsSync(output)).toBe(false);
});
