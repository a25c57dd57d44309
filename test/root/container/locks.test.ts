/** A container runtime's restore loses the locks on mapped files: that is said before and after, or refused. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import { inspect, type Warning } from '../../../src/index.js';
import { addProgram, Bundle, makeImage, newId, RuncContainer } from '../../fixtures/container.js';
import { until } from '../../fixtures/processes.js';

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
  addProgram(image, 'lock-files', fileURLToPath(new URL('../../fixtures/lock-files.c', import.meta.url)));
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

it('a lock on a mapped file is warned of at the checkpoint, in the archive and at the restore', async () => {
  const archive = join(scratch, 'archive.tar');
  await using bundle = new Bundle(image, { args: ['lock-files', '/data'] });
  await using container = await running(bundle);
  const { pid } = await container.state();
  const { runc, stateRoot } = { runc: container.id, stateRoot: container.stateRoot };
  const report = await checkpointContainer({ runc, stateRoot, output: archive, stop: true });
  expect(locksLost(report.warnings)).toEqual(theLock(pid));
  expect((await inspect(archive)).warnings.map(({ code }) => code)).toContain('LOCKS_LOST');
  await container.end();

  await using second = new Bundle(image);
  await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
  const place = { runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive };
  await expect(restoreContainer({ ...place, strict: true })).rejects.toMatchObject({ code: 'WARNINGS_REFUSED' });
  expect((await restored.runc('state')).status).not.toBe(0);
  const after = await restoreContainer(place);
  expect(locksLost(after.warnings)).toEqual(theLock(after.pid));
});

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
