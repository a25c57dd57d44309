import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkpointPod, restoreContainer, type PodManifest } from '../../../src/container/index.js';
import {
  Bundle,
  makeImage,
  must,
  parentCgroup,
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
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/**
 * Counts, tells the other by a file that both have mounted, and notes in its own root what it last heard from the
 * other.
 */
function talker(me: string, other: string): string[] {
  const loop = `i=0; while :; do i=$((i+1)); heard=0; read heard < /shared/${other} 2>/dev/null; echo "$i \${heard:-0} end" > /data/fresh; mv /data/fresh /data/notes; echo $i > /shared/${me}.fresh; mv /shared/${me}.fresh /shared/${me}; done`;
  return ['sh', '-c', loop];
}

interface Talkers extends AsyncDisposable {
  a: Bundle;
  b: Bundle;
  first: RuncContainer;
  second: RuncContainer;
}

async function startTalkers(shared: string, parent: string): Promise<Talkers> {
  mkdirSync(shared, { recursive: true });
  const mounts = [{ destination: '/shared', type: 'bind', source: shared, options: ['rbind', 'rw'] }];
  const a = new Bundle(image, { args: talker('a', 'b'), mounts, cgroup: `${parent}/a` });
  const b = new Bundle(image, { args: talker('b', 'a'), mounts, cgroup: `${parent}/b` });
  const first = await RuncContainer.run(a);
  const second = await RuncContainer.run(b, { stateRoot: a.dir });
  if (!(await until(() => [a, b].every((bundle) => notes(bundle.rootfs)?.every((n) => n > 20) === true), 20_000)))
    throw new Error('the two did not start to talk');
  const dispose = async (): Promise<void> => {
    for (const thing of [second, first, b, a]) await thing[Symbol.asyncDispose]();
  };
  return { a, b, first, second, [Symbol.asyncDispose]: dispose };
}

/** What one had counted, and what it had heard of the other. */
function notes(root: string): [own: number, heard: number] | undefined {
  if (!existsSync(join(root, 'data/notes'))) return undefined;
  const [own, heard] = readFileSync(join(root, 'data/notes'), 'utf8').split(' ').map(Number);
  return [own as number, heard as number];
}

it('takes two containers that talk to each other in one instant, again and again', async () => {
  await using pod = parentCgroup();
  const parent = pod.name;
  const shared = join(scratch, 'shared');
  await using talkers = await startTalkers(shared, parent);
  const { first, second } = talkers;
  for (let round = 0; round < 3; round++) {
    const outputDir = join(scratch, `pod-${round}`);
    const { containers, instant } = await checkpointPod({
      containers: [first, second].map(({ id, stateRoot }) => ({ runc: id, stateRoot })),
      outputDir,
    });
    expect(containers.map(({ container }) => container.id)).toEqual([first.id, second.id]);
    expect(instant.toMs).toBeGreaterThanOrEqual(instant.fromMs);

    const [ofA, ofB] = await Promise.all(
      [first, second].map(async ({ id }): Promise<[number, number]> => {
        const root = mkdtempSync(join(scratch, 'root-'));
        await must(
          'sh',
          '-c',
          `tar -xOf "$1" rootfs-diff.tar | tar -C "$2" -x`,
          'sh',
          join(outputDir, `${id}.tar`),
          root,
        );
        return notes(root) as [number, number];
      }),
    );
    // Nobody has heard a number that the other had not said yet, and neither is far behind: it was one moment.
    expect(ofA?.[1]).toBeLessThanOrEqual((ofB?.[0] as number) + 1);
    expect(ofB?.[1]).toBeLessThanOrEqual((ofA?.[0] as number) + 1);
    const manifest = JSON.parse(readFileSync(join(outputDir, 'pod.json'), 'utf8')) as PodManifest;
    expect(manifest.containers.map(({ archive }) => archive)).toEqual([`${first.id}.tar`, `${second.id}.tar`]);
  }
  expect([(await first.state()).status, (await second.state()).status]).toEqual(['running', 'running']);
});

it("finds a pod's containers by their common cgroup, ends them together, and each is restored", async () => {
  await using pod = parentCgroup();
  const parent = pod.name;
  await using a = new Bundle(image, { args: WRITER_ARGS, cgroup: `${parent}/a` });
  await using b = new Bundle(image, { args: WRITER_ARGS, cgroup: `${parent}/b` });
  await using first = await RuncContainer.run(a);
  await using second = await RuncContainer.run(b, { stateRoot: a.dir });
  for (const bundle of [a, b]) await new WriterInContainer(join(bundle.rootfs, 'data/status')).started();
  const outputDir = join(scratch, 'by-cgroup');
  const freezer = existsSync('/sys/fs/cgroup/freezer') ? '/sys/fs/cgroup/freezer' : '/sys/fs/cgroup';
  const { containers } = await checkpointPod({
    parentCgroup: `${freezer}${parent}`,
    stateRoot: first.stateRoot,
    outputDir,
    stop: true,
  });
  expect(containers.map(({ container }) => container.id).sort()).toEqual([first.id, second.id].sort());
  for (const container of [first, second]) expect((await container.state()).status).toBe('stopped');

  for (const { container, archivePath } of containers) {
    await using bundle = new Bundle(image);
    await using restored = RuncContainer.adopt(bundle, newId(), join(bundle.dir, 'runc-state'));
    await restoreContainer({
      runc: restored.id,
      stateRoot: restored.stateRoot,
      bundle: bundle.dir,
      archive: archivePath,
    });
    expect(await new WriterInContainer(join(bundle.rootfs, 'data/status')).isWell(), container.id).toEqual(WELL);
  }
});

it('lets all run on and leaves no directory when one of them cannot be checkpointed', async () => {
  await using pod = parentCgroup();
  const parent = pod.name;
  await using talkers = await startTalkers(join(scratch, 'shared-2'), parent);
  const { a, b, first, second } = talkers;
  const outputDir = join(scratch, 'failed');
  const before = readdirSync(scratch);
  const names = [first, second].map(({ id, stateRoot }) => ({ runc: id, stateRoot }));
  // A process that was put into the second one from outside: no descendant of its init, and no part of its tree.
  // Our child's child: a detached one is an orphan, and where process 1 reaps none (a test run that is process 1
  // itself) the container's pid namespace never ends.
  const pidFile = join(b.dir, 'stranger.pid');
  spawn('runc', ['--root', second.stateRoot, 'exec', '--pid-file', pidFile, second.id, 'sleep', '1000'], {
    stdio: 'ignore',
  });
  expect(await until(() => existsSync(pidFile), 20_000)).toBe(true);
  await expect(checkpointPod({ containers: names, outputDir })).rejects.toMatchObject({ name: 'FreezerError' });
  expect(readdirSync(scratch)).toEqual(before);
  const [wasA, wasB] = [notes(a.rootfs), notes(b.rootfs)] as [[number, number], [number, number]];
  expect(await until(() => notes(a.rootfs)![0] > wasA[0] + 5 && notes(b.rootfs)![0] > wasB[0] + 5)).toBe(true);

  await expect(checkpointPod({ containers: names, outputDir: scratch })).rejects.toMatchObject({
    code: 'OUTPUT_EXISTS',
  });
  await expect(
    checkpointPod({ parentCgroup: '/sys/fs/cgroup/none', stateRoot: first.stateRoot, outputDir }),
  ).rejects.toMatchObject({ code: 'NO_SUCH_CONTAINER' });
});
