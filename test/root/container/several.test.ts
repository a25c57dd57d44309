import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import { inspectImages } from '../../../src/index.js';
import {
  Bundle,
  makeImage,
  need,
  newId,
  ROUNDS,
  RuncContainer,
  WELL,
  WRITER_ARGS,
  WriterInContainer,
} from '../../fixtures/container.js';
import { CrunContainer, crunFirst } from '../../fixtures/crun.js';
import { importImage, PodmanContainer, removeImage } from '../../fixtures/podman.js';

// One archive is as many containers at once, beside the one that it was made of.
const numbers = Array.from({ length: ROUNDS }, (_, i) => i + 2);

let scratch: string;
let image: string;
beforeAll(() => {
  need('runc', 'unshare');
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
});
beforeAll(() => crunFirst(join(scratch, 'bin')));
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true });
});

/** All of them have pids of their own, and go on from the same state without a fault. */
async function expectWell(pids: readonly number[], writers: readonly WriterInContainer[]): Promise<void> {
  expect(new Set(pids).size).toBe(numbers.length);
  for (const writer of writers) expect(await writer.isWell()).toEqual(WELL);
}

it('runc', { timeout: 300_000 }, async () => {
  const archive = join(scratch, 'runc.tar');
  const writerOf = ({ rootfs }: Bundle): WriterInContainer => new WriterInContainer(join(rootfs, 'data/status'));
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = await RuncContainer.run(bundle);
  await writerOf(bundle).started();
  await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive });
  const { trees } = await inspectImages(archive, { files: true });
  expect(trees).toMatchObject([{ name: 'rootfs-diff.tar', source: '/' }]);
  expect(trees?.[0]?.root.children.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['data', 'etc', 'replaced']),
  );
  expect(trees?.[0]?.deleted).toContain('/etc/gone');

  const copies = numbers.map(() => {
    const place = new Bundle(image);
    return RuncContainer.adopt(place, newId(), join(place.dir, 'runc-state'));
  });
  const reports = await Promise.all(
    copies.map(({ id, stateRoot, bundle: { dir } }) => restoreContainer({ runc: id, stateRoot, bundle: dir, archive })),
  );
  await expectWell(
    reports.map(({ pid }) => pid),
    [...copies.map((copy) => writerOf(copy.bundle)), writerOf(bundle)],
  );
});

it('crun', { timeout: 300_000 }, async () => {
  const archive = join(scratch, 'crun.tar');
  await using bundle = new Bundle(image, { args: WRITER_ARGS });
  await using container = new CrunContainer(bundle);
  expect(await container.launch('run')).toBe(0);
  await container.writer.started();
  await checkpointContainer({ crun: container.id, stateRoot: container.stateRoot, output: archive });

  const copies = numbers.map(() => new CrunContainer(new Bundle(image)));
  const reports = await Promise.all(
    copies.map(({ id, stateRoot, bundle: { dir } }) => restoreContainer({ crun: id, stateRoot, bundle: dir, archive })),
  );
  await expectWell(
    reports.map(({ pid }) => pid),
    [...copies, container].map(({ writer }) => writer),
  );
});

it('Podman', { timeout: 300_000 }, async () => {
  need('podman');
  const archive = join(scratch, 'podman.tar');
  const imported = await importImage(image);
  onTestFinished(() => removeImage(imported));
  await using container = await PodmanContainer.run(imported, ...WRITER_ARGS);
  await (await container.writer()).started();
  await checkpointContainer({ podman: container.name, output: archive });

  const copies = numbers.map(() => new PodmanContainer(newId()));
  const reports = await Promise.all(copies.map(({ name }) => restoreContainer({ podman: name, archive })));
  await expectWell(
    reports.map(({ pid }) => pid),
    await Promise.all([...copies, container].map((one) => one.writer())),
  );
});
