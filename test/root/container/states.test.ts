import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connectedInodes } from '../../../src/container/target/connections.js';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import { findCriu } from '../../../src/criu/index.js';
import {
  addProgram,
  Bundle,
  makeImage,
  must,
  newId,
  RuncContainer,
  WELL,
  WRITER_ARGS,
  WriterInContainer,
} from '../../fixtures/container.js';
import { until } from '../../fixtures/processes.js';

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
  addProgram(image, 'odd-task', fileURLToPath(new URL('../../fixtures/odd-task.c', import.meta.url)));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const writerOf = (bundle: Bundle): WriterInContainer => new WriterInContainer(join(bundle.rootfs, 'data/status'));
const named = ({ id, stateRoot }: RuncContainer): { runc: string; stateRoot: string } => ({ runc: id, stateRoot });

it('a container with a user namespace is refused, and runs on', async () => {
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  const path = join(bundle.dir, 'config.json');
  const config = JSON.parse(readFileSync(path, 'utf8')) as { linux: { namespaces: object[] } };
  const mappings = [{ containerID: 0, hostID: 0, size: 65536 }];
  writeFileSync(
    path,
    JSON.stringify({
      ...config,
      linux: {
        ...config.linux,
        namespaces: [...config.linux.namespaces, { type: 'user' }],
        uidMappings: mappings,
        gidMappings: mappings,
      },
    }),
  );
  await using container = await RuncContainer.run(bundle);
  await writerOf(bundle).started();
  const output = join(scratch, 'rootless.tar');
  await expect(checkpointContainer({ ...named(container), output })).rejects.toMatchObject({
    code: 'CONTAINER_ROOTLESS',
    facts: { runtime: 'runc', id: container.id },
  });
  expect(existsSync(output)).toBe(false);
  expect(await writerOf(bundle).isWell()).toEqual(WELL);
});

it('a container that is deleted just before the freeze ends in an error, and nothing is left of either', async () => {
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = await RuncContainer.run(bundle);
  await writerOf(bundle).started();
  const output = join(scratch, 'deleted.tar');
  const attempt = checkpointContainer({
    ...named(container),
    output,
    onProgress: ({ phase, at }) => {
      if (phase === 'freeze' && at === 'start')
        spawnSync('runc', ['--root', container.stateRoot, 'delete', '--force', container.id], { stdio: 'ignore' });
    },
  });
  await expect(attempt).rejects.toMatchObject({
    name: expect.stringMatching(/^(Freezer|Checkpoint|Criu)Error$/) as string,
  });
  expect(existsSync(output)).toBe(false);
  expect(await until(() => !existsSync(join(container.stateRoot, container.id)))).toBe(true);
});

it('a TCP connection within a container goes along without being asked for, and comes back only where there is a network', async (context) => {
  // Linux 6.16 refuses what CRIU before 4.2 asks of every socket.
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const candidates = [
    undefined,
    fileURLToPath(new URL('../../../.stillframe/criu/sid/usr/sbin/criu', import.meta.url)),
  ];
  const found = await Promise.all(candidates.map((criuPath) => findCriu({ criuPath }).catch(() => undefined)));
  const criu = found.find(
    (binary) => binary !== undefined && (binary.versionNumber >= 40200 || major * 100 + minor < 616),
  );
  if (criu === undefined) context.skip('needs CRIU 4.2 on this kernel: scripts/install-criu.sh sid');
  const criuPath = criu?.path;
  const output = join(scratch, 'tcp.tar');
  const ready = (bundle: Bundle): string => join(bundle.rootfs, 'tmp/ready');
  const connections = ({ pid }: { pid: number }): number =>
    connectedInodes(readFileSync(`/proc/${pid}/net/tcp`, 'latin1')).length;
  await using bundle = new Bundle(image, { args: ['odd-task', 'tcp', '/tmp/file', '/tmp/ready'] });
  await using container = await RuncContainer.run(bundle);
  expect(await until(() => existsSync(ready(bundle)))).toBe(true);
  expect(connections(await container.state())).toBe(2);

  await expect(
    checkpointContainer({ ...named(container), output, criuPath, criu: { tcpEstablished: false } }),
  ).rejects.toMatchObject({ name: 'CriuError' });
  expect(existsSync(output)).toBe(false);
  expect(await container.state()).toMatchObject({ status: 'running' });

  await checkpointContainer({ ...named(container), output, criuPath, stop: true });
  await container.end();
  await using second = new Bundle(image);
  await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
  // runc makes the network namespace anew, with nothing in it, not even a loopback that is up: an engine would fill it.
  await expect(
    restoreContainer({ ...named(restored), bundle: second.dir, archive: output, criuPath }),
  ).rejects.toMatchObject({
    code: 'RUNTIME_FAILED',
    facts: { stderr: expect.stringContaining('Network is unreachable') as string },
  });
  expect(existsSync(join(restored.stateRoot, restored.id))).toBe(false);
});

it('a container whose standard streams are pipes is restored with others', async () => {
  const archive = join(scratch, 'piped.tar');
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = RuncContainer.adopt(bundle, newId(), join(bundle.dir, 'runc-state'));
  const runc = spawn('runc', ['--root', container.stateRoot, 'run', '--bundle', bundle.dir, container.id], {
    stdio: 'pipe',
  });
  try {
    await writerOf(bundle).started();
    // runc sees its end and removes the cgroup at once, while we verify the thaw.
    await checkpointContainer({ ...named(container), output: archive, stop: true });
  } finally {
    runc.stdin.end();
  }
  const descriptors = JSON.parse(await must('tar', '-xOf', archive, 'checkpoint/descriptors.json')) as string[];
  expect(descriptors).toEqual(Array.from({ length: 3 }, () => expect.stringMatching(/^pipe:\[\d+\]$/) as string));
  await container[Symbol.asyncDispose]();

  await using second = new Bundle(image);
  await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
  await restoreContainer({ ...named(restored), bundle: second.dir, archive });
  expect(await writerOf(second).isWell()).toEqual(WELL);
});

it('files of a bind mount are not in the archive, and the report says so', async () => {
  const source = join(scratch, 'bound');
  mkdirSync(source);
  await using bundle = new Bundle(image, {
    mounts: [{ destination: '/bound', type: 'bind', source, options: ['rbind', 'rw'] }],
  });
  await using container = await RuncContainer.run(bundle);
  const { leftOut } = await checkpointContainer({ ...named(container), output: join(scratch, 'bound.tar') });
  expect(leftOut).toEqual([{ source, destination: '/bound' }]);
});

it('a runtime that is not installed is named', async () => {
  const { PATH: path } = process.env;
  const archive = join(scratch, 'no-runtime.tar');
  await using bundle = new Bundle(image);
  await using container = await RuncContainer.run(bundle);
  await checkpointContainer({ ...named(container), output: archive });
  process.env['PATH'] = join(scratch, 'nothing');
  try {
    await expect(checkpointContainer({ podman: 'web', output: join(scratch, 'x.tar') })).rejects.toMatchObject({
      code: 'RUNTIME_MISSING',
      facts: { command: 'podman' },
    });
    await expect(restoreContainer({ crun: newId(), bundle: bundle.dir, archive })).rejects.toMatchObject({
      code: 'RUNTIME_MISSING',
      facts: { command: 'crun' },
    });
  } finally {
    process.env['PATH'] = path;
  }
});
