/** What a checkpoint of a container would do, asked of each runtime; nothing is touched. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { planContainerCheckpoint, type ContainerCheckpointPlan } from '../../../src/container/index.js';
import {
  Bundle,
  command,
  makeImage,
  must,
  need,
  newId,
  RuncContainer,
  WRITER_ARGS,
  WriterInContainer,
} from '../../fixtures/container.js';
import { CrunContainer, crunFirst } from '../../fixtures/crun.js';
import { stillframe } from '../../fixtures/program.js';

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
  // Before anything looks for a CRIU: what runtimes find is settled then.
});
beforeAll(() => crunFirst(join(scratch, 'bin')));
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
});

const cgroupOf = (pid: number): string => readFileSync(`/proc/${pid}/cgroup`, 'utf8');

function expectPlan(plan: ContainerCheckpointPlan, stateDir: string): void {
  expect(plan.refusals).toEqual([]);
  expect(plan.cgroup?.move).toBe('none');
  expect(plan.trees.map(({ name }) => name)).toContain('rootfs-diff.tar');
  expect(plan.trees[0]!.entries).toBeGreaterThan(1);
  expect(plan.window.ms).toBeGreaterThan(0);
  expect(existsSync(stateDir)).toBe(false);
}

it('of runc, with the bind mounts that would be left out', async () => {
  const source = join(scratch, 'outside');
  mkdirSync(source);
  const mounts = [{ source, destination: '/outside', type: 'bind', options: ['rbind', 'rw'] }];
  await using bundle = new Bundle(image, { args: WRITER_ARGS, mounts });
  await using container = await RuncContainer.run(bundle);
  await new WriterInContainer(join(bundle.rootfs, 'data/status')).started();
  const { pid } = await container.state();
  const before = cgroupOf(pid);
  const stateDir = join(scratch, 'state');
  const { id, stateRoot } = container;
  const plan = await planContainerCheckpoint({ runc: id, stateRoot, stateDir, observeMs: 100 });
  expectPlan(plan, stateDir);
  expect(plan.container).toEqual({ runtime: 'runc', id, name: id });
  expect(plan.leftOut).toEqual([{ source, destination: '/outside' }]);
  expect(cgroupOf(pid)).toBe(before);
  expect((await container.state()).status).toBe('running');

  const args = ['--runc', id, '--state-root', stateRoot, '--state-dir', stateDir];
  const { stdout, status } = await stillframe('checkpoint', '--dry-run', ...args);
  expect(status).toBe(0);
  expect(stdout).toMatch(new RegExp(`^not archived: +/outside \\(from ${source}\\)$`, 'm'));
});

it('of crun', async () => {
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  const container = new CrunContainer(bundle);
  expect(await container.launch('run')).toBe(0);
  await container.writer.started();
  const stateDir = join(scratch, 'state');
  const { id: crun, stateRoot } = container;
  const plan = await planContainerCheckpoint({ crun, stateRoot, stateDir, observeMs: 100 });
  expectPlan(plan, stateDir);
  expect(await container.status()).toBe('running');
});

it('of Podman, with its volumes among the trees', async () => {
  need('podman');
  const [tag, name, volume] = [`localhost/${newId()}`, newId(), newId()];
  onTestFinished(async () => {
    await command('podman', 'rm', '--force', '--time', '0', '--ignore', name);
    await command('podman', 'volume', 'rm', '--force', volume);
    await command('podman', 'rmi', '--force', tag);
  });
  await must('tar', '-C', image, '-cf', join(scratch, 'image.tar'), '.');
  await must('podman', 'import', '--quiet', join(scratch, 'image.tar'), tag);
  const run = ['run', '--detach', '--runtime', 'runc', '--network', 'none', '--ulimit', 'nofile=1024:1024'];
  await must(
    'podman',
    ...run,
    '--ulimit',
    'nproc=1000:1000',
    '--volume',
    `${volume}:/vol`,
    '--name',
    name,
    tag,
    'sleep',
    '1000',
  );
  const stateDir = join(scratch, 'state');
  const plan = await planContainerCheckpoint({ podman: name, stateDir, observeMs: 100 });
  expectPlan(plan, stateDir);
  expect(plan.trees.map((tree) => tree.name)).toContain(`volumes/${volume}.tar`);
  expect((await must('podman', 'container', 'inspect', '--format', '{{.State.Status}}', name)).trim()).toBe('running');
});
