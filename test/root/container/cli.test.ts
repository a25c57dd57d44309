import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ContainerCheckpointReport } from '../../../src/index.js';
import {
  Bundle,
  command,
  makeImage,
  newId,
  RuncContainer,
  WELL,
  WRITER_ARGS,
  WriterInContainer,
  type Ran,
} from '../../fixtures/container.js';

const main = fileURLToPath(new URL('../../../dist/src/cli/main.js', import.meta.url));
const stillframe = (...args: string[]): Promise<Ran> => command(process.execPath, main, ...args);

let scratch: string;
let image: string;
beforeAll(() => {
  if (!existsSync(main)) throw new Error('needs the built command: npm run build');
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

it('checkpoints a container by name, writes its image, and restores it under another id', async () => {
  const archive = join(scratch, 'c1.tar');
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = await RuncContainer.run(bundle);
  await new WriterInContainer(join(bundle.rootfs, 'data/status')).started();
  const made = await stillframe(
    'checkpoint',
    '--runc',
    container.id,
    '--state-root',
    container.stateRoot,
    '--output',
    archive,
    '--oci',
    join(scratch, 'c1-image'),
    '--stop',
    '--json',
  );
  expect(made).toMatchObject({ status: 0 });
  expect((JSON.parse(made.stdout) as ContainerCheckpointReport).container).toEqual({
    runtime: 'runc',
    id: container.id,
    name: container.id,
  });
  expect(existsSync(join(scratch, 'c1-image/index.json'))).toBe(true);
  await container.end();

  await using second = new Bundle(image);
  await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
  const brought = await stillframe(
    'restore',
    archive,
    '--runc',
    restored.id,
    '--state-root',
    restored.stateRoot,
    '--bundle',
    second.dir,
  );
  expect(brought).toMatchObject({ status: 0, stdout: `${(await restored.state()).pid}\n` });
  expect(await new WriterInContainer(join(second.rootfs, 'data/status')).isWell()).toEqual(WELL);
});

it('takes a pod, and says the names of its archives', async () => {
  await using bundle = new Bundle(image);
  await using container = await RuncContainer.run(bundle);
  const output = join(scratch, 'pod');
  const { status, stdout, stderr } = await stillframe(
    'pod',
    '--runc',
    container.id,
    '--state-root',
    container.stateRoot,
    '--output',
    output,
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toContain(`${container.id}.tar`);
  expect(existsSync(join(output, 'pod.json'))).toBe(true);
});

it.each([
  [['checkpoint', '--output', 'x.tar'], '--pid, --name, --runc, --crun or --podman'],
  [['checkpoint', '--runc', 'a', '--podman', 'b', '--output', 'x.tar'], 'one of --runc, --crun and --podman'],
  [['checkpoint', '--runc', 'a', '--adopt', '--output', 'x.tar'], '--adopt cannot be used with a container'],
  [['checkpoint', '--pid', '1', '--oci', 'x', '--output', 'x.tar'], '--oci cannot be used with --pid'],
  [['restore', 'x.tar', '--runc', 'a', '--cgroup', '/x', '--bundle', 'b'], '--cgroup cannot be used with a container'],
])('calls %j wrong usage and says why', async (args, text) => {
  const { status, stderr } = await stillframe(...args);
  expect({ status, said: stderr.includes(text), stderr }).toMatchObject({ status: 2, said: true });
});

it('says which container it could not find', async () => {
  const { status, stderr } = await stillframe(
    'checkpoint',
    '--runc',
    'no-such',
    '--state-root',
    scratch,
    '--output',
    join(scratch, 'x.tar'),
  );
  expect(status).toBe(1);
  expect(stderr).toContain('there is no runc container no-such');
});
