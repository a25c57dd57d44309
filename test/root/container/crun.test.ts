import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import {
  applyByHand,
  AS_CHANGED,
  Bundle,
  command,
  imageAsChanged,
  makeImage,
  need,
  newId,
  ROUNDS,
  RuncContainer,
  WELL,
  WRITER_ARGS,
  WriterInContainer,
} from '../../fixtures/container.js';
import { addLockFiles, LOCKED, locksOnMapped } from '../../fixtures/lock-files.js';
import { CrunContainer, crunFirst, crunOnPath } from '../../fixtures/crun.js';

const PATH = process.env['PATH'] ?? '';
const rounds = Array.from({ length: ROUNDS }, (_, i) => i + 1);

let scratch: string;
let image: string;
beforeAll(() => {
  need('runc', 'unshare');
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
  addLockFiles(image);
});
beforeAll(() => crunFirst(join(scratch, 'bin')));
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
});

async function startWriter(bundle: Bundle): Promise<CrunContainer> {
  const container = new CrunContainer(bundle);
  expect(await container.launch('run')).toBe(0);
  await container.writer.started();
  return container;
}

it.each(rounds)(
  'is checkpointed while it runs, and restored by `crun restore` on the images alone, round %i',
  async (round) => {
    const archive = join(scratch, `hand-${round}.tar`);
    await using bundle = new Bundle(image, { args: WRITER_ARGS });
    await using container = await startWriter(bundle);
    const report = await checkpointContainer({ crun: container.id, stateRoot: container.stateRoot, output: archive });
    expect(report.container).toEqual({ runtime: 'crun', id: container.id, name: container.id });
    expect(await container.writer.isWell()).toEqual(WELL);
    expect(await container.status()).toBe('running');
    await container[Symbol.asyncDispose]();

    await using second = new Bundle(image);
    const unpacked = await applyByHand(archive, second);
    await using restored = new CrunContainer(second);
    expect(
      await restored.launch(
        'restore',
        `--image-path=${join(unpacked, 'checkpoint')}`,
        `--work-path=${unpacked}`,
        '--file-locks',
      ),
    ).toBe(0);
    expect(await restored.writer.isWell()).toEqual(WELL);
    expect(imageAsChanged(second.rootfs)).toEqual(AS_CHANGED);
  },
);

it.each(rounds)('is restored by Stillframe under a new id into another bundle, round %i', async (round) => {
  const archive = join(scratch, `own-${round}.tar`);
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = await startWriter(bundle);
  await checkpointContainer({ crun: container.id, stateRoot: container.stateRoot, output: archive, stop: true });
  await container[Symbol.asyncDispose]();

  await using second = new Bundle(image);
  await using restored = new CrunContainer(second);
  const report = await restoreContainer({
    crun: restored.id,
    stateRoot: restored.stateRoot,
    bundle: second.dir,
    archive,
  });
  expect(report).toMatchObject({ runtime: 'crun', id: restored.id });
  expect(await restored.status()).toBe('running');
  expect(await restored.writer.isWell()).toEqual(WELL);
  expect(imageAsChanged(second.rootfs)).toEqual(AS_CHANGED);
});

/**
 * The two runtimes give masked paths different keys; CRIU's configuration, which a bundle can name, has those of crun
 * for runc.
 */
function crunKeys(): { annotations: Record<string, string> } {
  const path = join(scratch, 'criu.conf');
  const empty = join(scratch, 'empty');
  mkdirSync(empty, { recursive: true });
  const files = ['/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list', '/proc/sched_debug'].map(
    (masked) => `external mnt[${masked}]:/dev/null\n`,
  );
  const directories = ['/proc/acpi', '/proc/scsi', '/sys/firmware'].map(
    (masked) => `external mnt[${masked}]:${empty}\n`,
  );
  writeFileSync(path, [...files, ...directories].join(''));
  return { annotations: { 'org.criu.config': path } };
}

it('has its locks on a mapped file again when Stillframe has crun restore it', { timeout: 180_000 }, async () => {
  const archive = join(scratch, 'locks.tar');
  await using bundle = new Bundle(image, { args: ['lock-files', '/data'] });
  await using container = new CrunContainer(bundle);
  expect(await container.launch('run')).toBe(0);
  await expect.poll(() => existsSync(join(bundle.rootfs, 'data/ready'))).toBe(true);
  await checkpointContainer({ crun: container.id, stateRoot: container.stateRoot, output: archive, stop: true });
  await container[Symbol.asyncDispose]();

  await using second = new Bundle(image);
  await using restored = new CrunContainer(second);
  const place = { crun: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive };
  const report = await restoreContainer(place);
  expect(report.warnings.map(({ code }) => code)).not.toContain('LOCKS_LOST');
  expect(locksOnMapped(report.pid)).toEqual(LOCKED);
});

it('is restored by runc, when a configuration of CRIU names the masked files as crun does', async () => {
  const archive = join(scratch, 'for-runc.tar');
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = await startWriter(bundle);
  await checkpointContainer({ crun: container.id, stateRoot: container.stateRoot, output: archive, stop: true });

  await using second = new Bundle(image, { config: crunKeys() });
  await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
  await restoreContainer({ runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive });
  expect(await new WriterInContainer(join(second.rootfs, 'data/status')).isWell()).toEqual(WELL);
  expect(imageAsChanged(second.rootfs)).toEqual(AS_CHANGED);
});

it('is refused when it has ended', async () => {
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = await startWriter(bundle);
  await command('crun', '--root', container.stateRoot, 'kill', container.id, 'KILL');
  const output = join(scratch, 'ended.tar');
  await expect
    .poll(() =>
      checkpointContainer({ crun: container.id, stateRoot: container.stateRoot, output }).catch(
        (error: unknown) => error,
      ),
    )
    .toMatchObject({ code: 'CONTAINER_NOT_RUNNING', facts: { runtime: 'crun', state: 'stopped' } });
  expect(existsSync(output)).toBe(false);
});

it('is restored by no crun that was built without CRIU, as Debian 12 has one', async (context) => {
  const without = spawnSync('sh', ['-c', 'command -v crun'], { encoding: 'utf8', env: { PATH } }).stdout.trim();
  if (without === '' || /\+CRIU/.test(spawnSync(without, ['--version'], { encoding: 'utf8' }).stdout))
    context.skip('no crun without CRIU is installed here');
  const archive = join(scratch, 'without.tar');
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = await startWriter(bundle);
  await checkpointContainer({ crun: container.id, stateRoot: container.stateRoot, output: archive, stop: true });

  const path = process.env['PATH'];
  process.env['PATH'] = [crunOnPath(join(scratch, 'without'), without), PATH].join(delimiter);
  try {
    await using second = new Bundle(image);
    const stateRoot = join(second.dir, 'crun-state');
    const id = newId();
    await expect(restoreContainer({ crun: id, stateRoot, bundle: second.dir, archive })).rejects.toMatchObject({
      code: 'RUNTIME_FAILED',
      facts: { command: expect.stringContaining('crun') as string },
    });
    expect(existsSync(join(stateRoot, id))).toBe(false);
  } finally {
    process.env['PATH'] = path;
  }
});
