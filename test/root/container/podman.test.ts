import { createReadStream, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { checkpointContainer, restoreContainer, writeImage } from '../../../src/container/index.js';
import { inspect, inspectImages, readMember, verify, type ArchiveVerification } from '../../../src/index.js';
import {
  AS_CHANGED,
  command,
  imageAsChanged,
  makeImage,
  must,
  need,
  newId,
  ROUNDS,
  WELL,
  WRITER_ARGS,
} from '../../fixtures/container.js';
import { addLockFiles, LOCKED, locksOnMapped } from '../../fixtures/lock-files.js';
import { importImage, PodmanContainer, removeImage } from '../../fixtures/podman.js';
import { stillframe } from '../../fixtures/program.js';

let scratch: string;
let image: string;
beforeAll(async () => {
  need('podman', 'runc');
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  const dir = makeImage(join(scratch, 'image'));
  addLockFiles(dir);
  image = await importImage(dir);
});
afterAll(async () => {
  await removeImage(image);
  rmSync(scratch, { recursive: true, force: true });
});

describe('a Podman container with a busy writer', () => {
  it.each(Array.from({ length: ROUNDS }, (_, i) => i + 1))(
    'is checkpointed while it runs, and brought back by `podman container restore --import`, round %i',
    async (round) => {
      const archive = join(scratch, `podman-${round}.tar`);
      await using container = await PodmanContainer.run(image, ...WRITER_ARGS);
      await (await container.writer()).started();
      const report = await checkpointContainer({ podman: container.name, output: archive });
      expect(report.container).toMatchObject({ runtime: 'podman', name: container.name });
      expect(await (await container.writer()).isWell()).toEqual(WELL);
      await container.remove();

      await must('podman', 'container', 'restore', '--import', archive, '--file-locks');
      expect(await (await container.writer()).isWell()).toEqual(WELL);
      expect(imageAsChanged(await container.root())).toEqual(AS_CHANGED);
    },
  );

  it('is ended by the checkpoint, and restored by Stillframe under another name', async () => {
    const archive = join(scratch, 'renamed.tar');
    await using container = await PodmanContainer.run(image, ...WRITER_ARGS);
    await (await container.writer()).started();
    await checkpointContainer({ podman: container.name, output: archive, stop: true });
    await expect.poll(() => container.inspect('{{.State.Status}}')).toBe('exited');

    await using second = new PodmanContainer(newId());
    const report = await restoreContainer({ podman: second.name, archive });
    expect(report).toMatchObject({ runtime: 'podman', name: second.name });
    expect(await (await second.writer()).isWell()).toEqual(WELL);
  });
});

it('has its locks on a mapped file again when Stillframe has Podman restore it', { timeout: 180_000 }, async () => {
  const archive = join(scratch, 'locks.tar');
  await using container = await PodmanContainer.run(image, 'lock-files', '/data');
  await expect.poll(async () => existsSync(join(await container.root(), 'data/ready'))).toBe(true);
  await checkpointContainer({ podman: container.name, output: archive, stop: true });

  await using second = new PodmanContainer(newId());
  const report = await restoreContainer({ podman: second.name, archive });
  expect(report.warnings.map(({ code }) => code)).not.toContain('LOCKS_LOST');
  expect(locksOnMapped(report.pid)).toEqual(LOCKED);
});

it('keeps what a container changed of its image, which Podman itself loses', async () => {
  const changes = `${WRITER_ARGS[2]?.split(' && exec')[0]}; while :; do sleep 1; done`;
  await using container = await PodmanContainer.run(image, 'sh', '-c', changes);
  await expect.poll(async () => imageAsChanged(await container.root())).toEqual(AS_CHANGED);
  const [ours, theirs] = [join(scratch, 'ours.tar'), join(scratch, 'theirs.tar')];
  await checkpointContainer({ podman: container.name, output: ours });
  await must('podman', 'container', 'checkpoint', '--leave-running', '--export', theirs, container.name);

  // Theirs has no hashes of ours: it is told from a damaged one, and left to them.
  await expect(restoreContainer({ podman: newId(), archive: theirs })).rejects.toMatchObject({
    code: 'FOREIGN_CHECKPOINT',
    facts: { archivePath: theirs },
  });
  await expect(writeImage({ archive: theirs, directory: join(scratch, 'their-image') })).rejects.toMatchObject({
    code: 'FOREIGN_CHECKPOINT',
  });

  await container.remove();
  await must('podman', 'container', 'restore', '--import', theirs);
  const lost = imageAsChanged(await container.root());
  expect(lost).toMatchObject({ changed: 'as in the image\n', modes: '755 0 0' });

  await container.remove();
  await must('podman', 'container', 'restore', '--import', ours);
  expect(imageAsChanged(await container.root())).toEqual(AS_CHANGED);
});

it('of which Podman made an archive that does not come back: `verify` names the file, before anybody tries', async () => {
  const appends = 'exec 3<>/data/log; echo >/data/ready; while :; do echo line >&3; done';
  await using container = await PodmanContainer.run(image, 'sh', '-c', appends);
  await expect.poll(async () => existsSync(join(await container.root(), 'data/ready')), { timeout: 60_000 }).toBe(true);
  const [ours, theirs] = [join(scratch, 'ours-whole.tar'), join(scratch, 'theirs-torn.tar.gz')];
  await checkpointContainer({ podman: container.name, output: ours });
  expect((await verify(ours)).restorable.faults).toEqual([]);
  // Now and then the container does not get to run until its files are read.
  let verification: ArchiveVerification;
  do {
    await must('podman', 'container', 'checkpoint', '--leave-running', '--export', theirs, container.name);
    verification = await verify(theirs);
  } while (verification.restorable.faults.length === 0);
  const { foreign, manifest, restorable } = verification;
  expect({ engine: foreign?.engine, manifest }).toEqual({ engine: 'Podman', manifest: undefined });
  expect(restorable.faults).toMatchObject([{ kind: 'file-size', path: '/data/log', pids: [1] }]);
  const options = { mounts: true, cgroups: true, statistics: true, summary: true };
  for (const archive of [ours, theirs]) {
    const { processes, mounts, statistics, archive: summary } = await inspectImages(archive, options);
    expect(processes[0]).toMatchObject({ pid: 1, name: 'sh', args: ['sh', '-c', appends] });
    expect(mounts?.map(({ mountPoint }) => mountPoint)).toEqual(expect.arrayContaining(['/', '/proc', '/dev/shm']));
    expect(mounts).toContainEqual(expect.objectContaining({ mountPoint: '/proc', type: 'proc', external: false }));
    expect(statistics?.pagesWritten).toBeGreaterThan(0);
    expect(summary?.container).toMatchObject({ engine: 'Podman', name: container.name });
  }

  await container.remove();
  const { stderr, status } = await command('podman', 'container', 'restore', '--import', theirs);
  expect({ status, stderr }).not.toMatchObject({ status: 0 });
  await container.remove();
  await must('podman', 'container', 'restore', '--import', ours);
});

it('carries volumes, shared memory and the log', async () => {
  const archive = join(scratch, 'volumes.tar');
  const volume = newId();
  try {
    const writes =
      'echo in the volume > /vol/file; chmod 640 /vol/file; echo in shared memory > /dev/shm/file; echo on standard output; while :; do sleep 1; done';
    await using container = await PodmanContainer.run('--volume', `${volume}:/vol`, image, 'sh', '-c', writes);
    await expect
      .poll(async () => (await command('podman', 'logs', container.name)).stdout)
      .toBe('on standard output\n');
    await checkpointContainer({ podman: container.name, output: archive });
    await container.remove();
    await must('podman', 'volume', 'rm', volume);

    await must('podman', 'container', 'restore', '--import', archive);
    const root = await container.root();
    expect(readFileSync(join(root, 'vol/file'), 'utf8')).toBe('in the volume\n');
    expect(readFileSync(join(root, 'dev/shm/file'), 'utf8')).toBe('in shared memory\n');
    expect((await command('podman', 'logs', container.name)).stdout).toBe('on standard output\n');
  } finally {
    await command('podman', 'volume', 'rm', '--force', volume);
  }
});

it("recognizes Podman's own archives as they come through a pipe, compressed or not", async () => {
  await using container = await PodmanContainer.run(image, 'sh', '-c', 'while :; do sleep 1; done');
  for (const compression of ['none', 'gzip', 'zstd']) {
    const archive = join(scratch, `own.${compression}`);
    const how = ['--leave-running', '--compress', compression, '--export', archive];
    await must('podman', 'container', 'checkpoint', ...how, container.name);
    const found = await inspect(createReadStream(archive));
    expect(found).toMatchObject({ compression, manifest: undefined });
    expect(found.foreign).toMatchObject({ engine: 'Podman', name: container.name, runtime: 'runc' });
    expect(found.foreign?.image).toContain(image);
    expect(found.members.map(({ name }) => name)).toContain('checkpoint/inventory.img');
    const config = await readMember(createReadStream(archive), 'config.dump');
    expect(JSON.parse(config.toString('utf8'))).toMatchObject({ id: found.foreign?.id });
    rmSync(archive);
  }
});

it('refuses a container that Podman does not know, and one that has ended', async () => {
  await expect(
    checkpointContainer({ podman: 'stillframe-test-none', output: join(scratch, 'x.tar') }),
  ).rejects.toMatchObject({ code: 'NO_SUCH_CONTAINER' });
  await using container = await PodmanContainer.run(image, 'sh', '-c', 'exit 0');
  await expect.poll(() => container.inspect('{{.State.Status}}')).toBe('exited');
  await expect(checkpointContainer({ podman: container.name, output: join(scratch, 'x.tar') })).rejects.toMatchObject({
    code: 'CONTAINER_NOT_RUNNING',
    facts: { state: 'exited' },
  });
});

describe('a container that others send commands into', () => {
  const LOOP = ['sh', '-c', 'while :; do sleep 0.1; done'];

  it('is checkpointed between the commands, as a probe sends them', async () => {
    await using container = await PodmanContainer.run(image, ...LOOP);
    const probes = new AbortController();
    onTestFinished(() => probes.abort());
    const probing = (async () => {
      while (!probes.signal.aborted) {
        await command('timeout', '30', 'podman', 'exec', container.name, 'sleep', '0.1');
        await sleep(200);
      }
    })();
    try {
      await checkpointContainer({
        podman: container.name,
        output: join(scratch, 'probed.tar'),
        retries: 5,
        stateDir: join(scratch, 'state'),
      });
    } finally {
      probes.abort();
      await probing;
    }
    await container.remove();
    await using restored = new PodmanContainer(container.name);
    await restoreContainer({ podman: restored.name, archive: join(scratch, 'probed.tar') });
    expect(await restored.inspect('{{.State.Status}}')).toBe('running');
  });

  it('is refused while one stays, which is named, and runs on', async () => {
    await using container = await PodmanContainer.run(image, ...LOOP);
    await must('podman', 'exec', '--detach', container.name, 'sleep', '77');
    const output = join(scratch, 'guest.tar');
    const { status, stderr } = await stillframe('checkpoint', '--podman', container.name, '--output', output);
    expect(status).toBe(1);
    expect(stderr).toMatch(/started in it from outside.*\d+ \(sleep\)/);
    expect(stderr).not.toContain('--adopt');
    expect(await container.inspect('{{.State.Status}}')).toBe('running');
  });

  it('is named when the pid of its process is given', async () => {
    await using container = await PodmanContainer.run(image, ...LOOP);
    const pid = await container.inspect('{{.State.Pid}}');
    const { status, stderr } = await stillframe('checkpoint', '--pid', pid, '--output', join(scratch, 'pid.tar'));
    expect(status).toBe(1);
    expect(stderr).toContain(`process ${pid} is in the Podman container ${container.name}`);
    expect(stderr).toContain(`--podman ${container.name}`);
  });
});

it('a restore that Podman fails says why, and leaves no container; a taken name is told', async () => {
  const secret = newId();
  await must('sh', '-c', 'echo x | podman secret create "$0" -', secret);
  onTestFinished(() => command('podman', 'secret', 'rm', secret).then(() => undefined));
  await using container = await PodmanContainer.run(
    '--secret',
    secret,
    image,
    'sh',
    '-c',
    'while :; do sleep 0.1; done',
  );
  const archive = join(scratch, 'secret.tar');
  const taken = await stillframe('checkpoint', '--podman', container.name, '--output', archive);
  expect(taken.stdout).toContain(`not archived:`);
  expect(taken.stdout).toContain(`/run/secrets/${secret}`);
  expect(taken.stdout).toContain('Podman cannot restore a container with secrets below /run/secrets');
  expect(taken.stdout).toContain('podman run --secret NAME,target=/PATH');
  expect(taken.stdout).not.toContain('/etc/hosts');
  await expect(restoreContainer({ podman: container.name, archive })).rejects.toMatchObject({
    code: 'CONTAINER_EXISTS',
  });
  await container.remove();
  const { status, stderr } = await stillframe('restore', archive, '--podman', container.name);
  expect(status).toBe(1);
  expect(stderr).toContain('Error (criu/');
  expect(stderr).toContain('podman run --secret NAME,target=/PATH');
  expect((await command('podman', 'container', 'exists', container.name)).status).toBe(1);
});

it('comes back with a secret that is mounted elsewhere, and nothing is warned of', async () => {
  const secret = newId();
  await must('sh', '-c', 'printf hidden | podman secret create "$0" -', secret);
  onTestFinished(() => command('podman', 'secret', 'rm', secret).then(() => undefined));
  const run = ['--secret', `${secret},target=/data/key`, image, 'sh', '-c', 'while :; do sleep 0.1; done'];
  await using container = await PodmanContainer.run(...run);
  const archive = join(scratch, 'secret-elsewhere.tar');
  const { warnings } = await checkpointContainer({ podman: container.name, output: archive, stop: true });
  expect(warnings).toEqual([]);
  await using second = new PodmanContainer(newId());
  await restoreContainer({ podman: second.name, archive });
  expect(readFileSync(join(await second.root(), 'data/key'), 'utf8')).toBe('hidden');
});
