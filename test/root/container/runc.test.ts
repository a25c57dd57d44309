import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkpointContainer, findContainer, restoreContainer } from '../../../src/container/index.js';
import {
  applyByHand,
  AS_CHANGED,
  Bundle,
  imageAsChanged,
  launch,
  makeImage,
  must,
  newId,
  ROUNDS,
  RuncContainer,
  WELL,
  WRITER_ARGS,
  WriterInContainer,
} from '../../fixtures/container.js';

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

function writerOf(bundle: Bundle): WriterInContainer {
  return new WriterInContainer(join(bundle.rootfs, 'data/status'));
}

describe('a runc container with a busy writer', () => {
  it.each(Array.from({ length: ROUNDS }, (_, i) => i + 1))(
    'is checkpointed while it runs, and restored by `runc restore` on the images alone, round %i',
    async (round) => {
      const archive = join(scratch, `hand-${round}.tar`);
      await using bundle = new Bundle(image, { args: WRITER_ARGS });
      await using container = await RuncContainer.run(bundle);
      await writerOf(bundle).started();

      const report = await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive });
      expect(report.container).toEqual({ runtime: 'runc', id: container.id, name: container.id });
      expect(await writerOf(bundle).isWell()).toEqual(WELL);
      expect((await container.state()).status).toBe('running');
      await container.end();

      await using second = new Bundle(image);
      const unpacked = await applyByHand(archive, second);
      const stateRoot = join(second.dir, 'runc-state');
      await using restored = RuncContainer.adopt(second, newId(), stateRoot);
      await launch(
        '--root',
        stateRoot,
        'restore',
        '--detach',
        '--bundle',
        second.dir,
        '--image-path',
        join(unpacked, 'checkpoint'),
        '--work-path',
        unpacked,
        '--file-locks',
        restored.id,
      );

      expect(await writerOf(second).isWell()).toEqual(WELL);
      expect(imageAsChanged(second.rootfs)).toEqual(AS_CHANGED);
    },
  );

  it.each(Array.from({ length: ROUNDS }, (_, i) => i + 1))(
    'is restored by Stillframe under a new id into another bundle, round %i',
    async (round) => {
      const archive = join(scratch, `own-${round}.tar`);
      await using bundle = new Bundle(image, { args: WRITER_ARGS });
      await using container = await RuncContainer.run(bundle);
      await writerOf(bundle).started();
      await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive, stop: true });
      await container.end();

      await using second = new Bundle(image);
      await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
      const report = await restoreContainer({
        runc: restored.id,
        stateRoot: restored.stateRoot,
        bundle: second.dir,
        archive,
      });
      expect(report.pid).toBe((await restored.state()).pid);
      expect(await writerOf(second).isWell()).toEqual(WELL);
      expect(imageAsChanged(second.rootfs)).toEqual(AS_CHANGED);
      expect(existsSync(join(second.dir, '.stillframe'))).toBe(false);
    },
  );

  it('is restored with its own configuration when the new bundle has none', async () => {
    const archive = join(scratch, 'spec.tar');
    await using bundle = new Bundle(image, { args: WRITER_ARGS });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive, stop: true });
    await container.end();

    await using second = new Bundle(image);
    rmSync(join(second.dir, 'config.json'));
    await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
    await restoreContainer({ runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive });
    expect(await writerOf(second).isWell()).toEqual(WELL);
  });
});

describe('refuses', () => {
  it('a container that is not there, naming where it looked', async () => {
    await expect(
      checkpointContainer({ runc: 'no-such', stateRoot: scratch, output: join(scratch, 'x.tar') }),
    ).rejects.toMatchObject({ code: 'NO_SUCH_CONTAINER', facts: { searched: [scratch] } });
    await expect(
      checkpointContainer({ runc: '../etc', stateRoot: scratch, output: join(scratch, 'x.tar') }),
    ).rejects.toMatchObject({ code: 'BAD_OPTION' });
    await expect(checkpointContainer({ output: join(scratch, 'x.tar') })).rejects.toMatchObject({
      code: 'BAD_OPTION',
    });
  });

  it('a container that was created and not started, and one that has ended', async () => {
    await using bundle = new Bundle(image);
    const stateRoot = join(bundle.dir, 'runc-state');
    await using container = RuncContainer.adopt(bundle, newId(), stateRoot);
    await launch('--root', stateRoot, 'create', '--bundle', bundle.dir, container.id);
    const options = { runc: container.id, stateRoot, output: join(scratch, 'created.tar') };
    await expect(checkpointContainer(options)).rejects.toMatchObject({
      code: 'CONTAINER_NOT_RUNNING',
      facts: { state: 'created, but not started' },
    });
    await must('runc', '--root', stateRoot, 'kill', container.id, 'KILL');
    await expect
      .poll(() => checkpointContainer(options).catch((error: unknown) => error))
      .toMatchObject({ code: 'CONTAINER_NOT_RUNNING', facts: { state: 'stopped' } });
    expect(existsSync(options.output)).toBe(false);
  });

  it('a container without an overlay, unless its whole root file system is asked for', async () => {
    await using bundle = new Bundle(image, { overlay: false, args: WRITER_ARGS });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    const options = { runc: container.id, stateRoot: container.stateRoot, output: join(scratch, 'whole.tar') };
    await expect(checkpointContainer(options)).rejects.toMatchObject({ code: 'NO_OVERLAY' });

    await checkpointContainer({ ...options, wholeRootfs: true, stop: true });
    await container.end();
    await using second = new Bundle(join(scratch, 'image'), { overlay: false });
    await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
    const again = {
      runc: restored.id,
      stateRoot: restored.stateRoot,
      bundle: second.dir,
      archive: options.output,
    };
    // Over the image, what the container had deleted would come back.
    await expect(restoreContainer(again)).rejects.toMatchObject({
      code: 'ROOTFS_NOT_EMPTY',
      facts: { rootfs: second.rootfs },
    });
    expect(existsSync(join(second.rootfs, 'etc/gone'))).toBe(true);
    rmSync(second.rootfs, { recursive: true });
    await must('mkdir', second.rootfs);
    await restoreContainer(again);
    expect(await writerOf(second).isWell()).toEqual(WELL);
    expect(imageAsChanged(second.rootfs)).toEqual(AS_CHANGED);
  });

  it('the archive of a container at `restore` by an unknown runtime or without a bundle', async () => {
    await expect(restoreContainer({ archive: 'x.tar' })).rejects.toMatchObject({ code: 'BAD_OPTION' });
    await expect(restoreContainer({ archive: 'x.tar', runc: 'a' })).rejects.toMatchObject({
      code: 'BAD_OPTION',
      facts: { option: 'bundle' },
    });
  });
});

describe('a restore', () => {
  it('under an id that is taken changes nothing', async () => {
    const archive = join(scratch, 'taken.tar');
    await using bundle = new Bundle(image, { args: WRITER_ARGS });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive });
    await using second = new Bundle(image);
    await expect(
      restoreContainer({ runc: container.id, stateRoot: container.stateRoot, bundle: second.dir, archive }),
    ).rejects.toMatchObject({ code: 'CONTAINER_EXISTS' });
    expect(existsSync(join(second.rootfs, 'etc/gone'))).toBe(true);
    expect(await writerOf(bundle).isWell()).toEqual(WELL);
  });

  it('that CRIU refuses leaves no container, and says what CRIU said', async () => {
    const archive = join(scratch, 'refused.tar');
    await using bundle = new Bundle(image, { args: WRITER_ARGS });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive, stop: true });
    await container.end();
    // The image without the program that the images map: CRIU cannot open it.
    await using second = new Bundle(image);
    rmSync(join(second.rootfs, 'bin/busy-writer'));
    await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
    await expect(
      restoreContainer({ runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive }),
    ).rejects.toMatchObject({
      code: 'RUNTIME_FAILED',
      facts: { stderr: expect.stringContaining('busy-writer') as string },
    });
    expect(existsSync(join(restored.stateRoot, restored.id))).toBe(false);
  });

  it("without what the archive's configuration asked of the machine says so, and leaves no configuration", async () => {
    const archive = join(scratch, 'dropped.tar');
    await using bundle = new Bundle(image, {
      args: WRITER_ARGS,
      config: { annotations: { 'com.example.owner': 'me', 'io.container.manager': 'kept' } },
    });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive, stop: true });
    await container.end();
    await using second = new Bundle(image);
    rmSync(join(second.dir, 'config.json'));
    rmSync(join(second.rootfs, 'bin/busy-writer'));
    await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
    await expect(
      restoreContainer({ runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive }),
    ).rejects.toMatchObject({
      code: 'RUNTIME_FAILED',
      facts: { dropped: [{ setting: 'runtime', what: 'annotation com.example.owner' }] },
      remedy: expect.stringContaining('`keep: runtime`') as string,
    });
    expect(existsSync(join(second.dir, 'config.json'))).toBe(false);
  });
});

it("reads a container's configuration from its bundle, whatever bundle its annotations name", async () => {
  await using bundle = new Bundle(image, { config: { annotations: { bundle: scratch, 'bundle=': scratch } } });
  await using container = await RuncContainer.run(bundle);
  const found = await findContainer({ runc: container.id, stateRoot: container.stateRoot });
  expect(found.bundle).toBe(bundle.dir);
});

it('leaves a paused container paused, and its checkpoint restores running', async () => {
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = await RuncContainer.run(bundle);
  await writerOf(bundle).started();
  expect((await container.runc('pause')).status).toBe(0);
  const archive = join(scratch, 'paused.tar');
  const report = await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive });
  expect(report.foundFrozen).toBe(true);
  expect((await container.state()).status).toBe('paused');
  await container.end();

  await using second = new Bundle(image);
  await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
  await restoreContainer({ runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive });
  expect((await restored.state()).status).toBe('running');
  expect(await writerOf(second).isWell()).toEqual(WELL);
});
