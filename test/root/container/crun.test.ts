import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import { AS_CHANGED, Bundle, command, criuEnvironment, imageAsChanged, makeImage, must, need, newId, RuncContainer, WELL, WRITER_ARGS, WriterInContainer } from '../../fixtures/container.js';

let scratch: string;
let image: string;
/** Built with CRIU: `crun restore` exists and works. Debian 12's is not. */
let hasCriu: boolean;
beforeAll(async () => {
  need('crun', 'runc', 'unshare');
  hasCriu = /\+CRIU/.test(await must('crun', '--version'));
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

async function withCrun(body: (container: { id: string; stateRoot: string; bundle: Bundle; writer: WriterInContainer }) => Promise<void>): Promise<void> {
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  const id = newId();
  const stateRoot = join(bundle.dir, 'crun-state');
  // crun refuses a hybrid layout whose v2 hierarchy has controllers: in a mount namespace of its own it does not see one.
  const script = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"';
  const { status } = spawnSync('unshare', ['--mount', 'sh', '-c', script, 'sh', '--root', stateRoot, 'run', '--detach', '--bundle', bundle.dir, id], { env: await criuEnvironment(), stdio: 'ignore' });
  try {
    expect(status).toBe(0);
    const writer = new WriterInContainer(join(bundle.rootfs, 'data/status'));
    await writer.started();
    await body({ id, stateRoot, bundle, writer });
  } finally {
    await command('crun', '--root', stateRoot, 'delete', '--force', id);
  }
}

/** The two runtimes give masked files different keys; CRIU's configuration, which a bundle can name, has those of crun for runc. */
function crunKeys(): { annotations: Record<string, string> } {
  const path = join(scratch, 'criu.conf');
  writeFileSync(path, ['/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list', '/proc/sched_debug'].map((masked) => `external mnt[${masked}]:/dev/null\n`).join(''));
  return { annotations: { 'org.criu.config': path } };
}

it('a crun container is checkpointed while it runs, and its archive restores under runc', async () => {
  const archive = join(scratch, 'crun.tar');
  await withCrun(async ({ id, stateRoot, writer }) => {
    const report = await checkpointContainer({ crun: id, stateRoot, output: archive });
    expect(report.container).toEqual({ runtime: 'crun', id, name: id });
    expect(await writer.isWell()).toEqual(WELL);
  });
  await using second = new Bundle(image, { config: crunKeys() });
  await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
  await restoreContainer({ runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive });
  expect(await new WriterInContainer(join(second.rootfs, 'data/status')).isWell()).toEqual(WELL);
  expect(imageAsChanged(second.rootfs)).toEqual(AS_CHANGED);
});

it('a crun container that has ended is refused', async () => {
  await withCrun(async ({ id, stateRoot }) => {
    await must('crun', '--root', stateRoot, 'kill', id, 'KILL');
    await expect.poll(() => checkpointContainer({ crun: id, stateRoot, output: join(scratch, 'ended.tar') }).catch((error: unknown) => error)).toMatchObject({ code: 'CONTAINER_NOT_RUNNING', facts: { runtime: 'crun', state: 'stopped' } });
    expect(existsSync(join(scratch, 'ended.tar'))).toBe(false);
  });
});

it('crun itself restores the archive, or says that it cannot', async () => {
  const archive = join(scratch, 'for-crun.tar');
  await withCrun(async ({ id, stateRoot }) => {
    await checkpointContainer({ crun: id, stateRoot, output: archive, stop: true });
  });
  await using second = new Bundle(image);
  const id = newId();
  const stateRoot = join(second.dir, 'crun-state');
  const restore = restoreContainer({ crun: id, stateRoot, bundle: second.dir, archive });
  try {
    if (hasCriu) {
      await restore;
      expect(await new WriterInContainer(join(second.rootfs, 'data/status')).isWell()).toEqual(WELL);
    } else {
      await expect(restore).rejects.toMatchObject({ code: 'RUNTIME_FAILED', facts: { command: expect.stringContaining('crun') as string } });
      expect(existsSync(join(stateRoot, id))).toBe(false);
    }
  } finally {
    await command('crun', '--root', stateRoot, 'delete', '--force', id);
  }
});
