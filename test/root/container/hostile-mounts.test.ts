/** What a container that may mount can make its own mounts look like, and what of it reaches an archive: nothing. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkpointContainer } from '../../../src/container/index.js';
import { runcContainer } from '../../../src/container/runtimes/runc.js';
import { containerTarget } from '../../../src/container/target/container-target.js';
import { Bundle, command, makeImage, must, RuncContainer } from '../../fixtures/container.js';

const SECRET = 'of the host, and nobody else';
let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
  mkdirSync(join(scratch, 'secret'), { mode: 0o700 });
  writeFileSync(join(scratch, 'secret/key'), SECRET);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** In the container's mount namespace, as one with CAP_SYS_ADMIN could. */
async function inside(pid: number, script: string): Promise<void> {
  await must('nsenter', '--target', String(pid), '--mount', '/bin/busybox', 'sh', '-ec', script);
}

/** Makes an overlay in the container whose upper directory has the name of a directory of the host. */
const fake = (on: string): string =>
  [
    `busybox mkdir -p ${scratch}`,
    `busybox mount -t tmpfs tmpfs ${scratch}`,
    `busybox mkdir -p ${scratch}/secret ${scratch}/work`,
    `busybox mount -t overlay overlay -o lowerdir=/bin,upperdir=${scratch}/secret,workdir=${scratch}/work ${on}`,
  ].join('\n');

async function targetOf({ id, stateRoot }: RuncContainer): Promise<string> {
  const { target } = await containerTarget(await runcContainer(id, { stateRoot }));
  return target.files?.[0]?.path as string;
}

it("takes what a container changed from its overlay's upper directory, whatever it mounts over its root", async () => {
  await using bundle = new Bundle(image);
  await using container = await RuncContainer.run(bundle);
  const { pid } = await container.state();
  await inside(pid, 'busybox touch /changed');
  expect(await targetOf(container)).toBe(join(bundle.dir, 'upper'));
  await inside(pid, fake('/'));
  expect(readFileSync(`/proc/${pid}/mountinfo`, 'utf8')).toContain(`upperdir=${scratch}/secret`);
  expect(await targetOf(container)).toBe(join(bundle.dir, 'upper'));

  const output = join(scratch, 'faked.tar');
  // CRIU may or may not dump such a root.
  await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output, retries: 0 }).catch(
    () => undefined,
  );
  expect((await command('grep', '-c', SECRET, output)).status).not.toBe(0);
  expect(await container.state()).toMatchObject({ status: 'running' });
});

it('refuses a container whose root it does not see mounted here, or not alone', async () => {
  await using bundle = new Bundle(image);
  await using container = await RuncContainer.run(bundle);
  const refusal = { code: 'OVERLAY_HIDDEN', facts: { id: container.id, rootfs: bundle.rootfs } };

  // As mount propagation brings it here where the root's mount is a shared one.
  await must('mount', '-t', 'tmpfs', 'tmpfs', bundle.rootfs);
  try {
    await expect(targetOf(container)).rejects.toMatchObject(refusal);
  } finally {
    await must('umount', bundle.rootfs);
  }
  expect(await targetOf(container)).toBe(join(bundle.dir, 'upper'));

  await must('umount', '--lazy', bundle.rootfs);
  await expect(targetOf(container)).rejects.toMatchObject(refusal);
});
