import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { checkpointContainer, restoreContainer } from '../../../src/container/index.js';
import {
  Bundle,
  makeImage,
  newId,
  RuncContainer,
  WELL,
  WRITER_ARGS,
  WriterInContainer,
} from '../../fixtures/container.js';

const writerOf = (bundle: Bundle): WriterInContainer => new WriterInContainer(join(bundle.rootfs, 'data/status'));

test(
  'one archive is several containers at once, beside the one that it was made of',
  { timeout: 300_000 },
  async () => {
    const scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
    onTestFinished(() => rmSync(scratch, { recursive: true, force: true }));
    const image = makeImage(join(scratch, 'image'));
    const archive = join(scratch, 'c1.tar');
    await using bundle = new Bundle(image, { args: WRITER_ARGS });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive });

    const restored = await Promise.all(
      [2, 3, 4].map(async () => {
        const place = new Bundle(image);
        const copy = RuncContainer.adopt(place, newId(), join(place.dir, 'runc-state'));
        onTestFinished(async () => {
          await copy[Symbol.asyncDispose]();
          await place[Symbol.asyncDispose]();
        });
        const { pid } = await restoreContainer({
          runc: copy.id,
          stateRoot: copy.stateRoot,
          bundle: place.dir,
          archive,
        });
        return { place, pid };
      }),
    );
    expect(new Set(restored.map(({ pid }) => pid)).size).toBe(3);
    for (const { place } of restored) expect(await writerOf(place).isWell()).toEqual(WELL);
    expect(await writerOf(bundle).isWell()).toEqual(WELL);
  },
);
