/**
 * A container's memory written ahead of the window. What needs a kernel that tracks memory runs there: npm run
 * test:kernels.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkpointContainer, CriuClient, findCriu, restoreContainer } from '../../../src/index.js';
import {
  Bundle,
  makeImage,
  newId,
  RuncContainer,
  WELL,
  WRITER_ARGS,
  WriterInContainer,
} from '../../fixtures/container.js';

const writerOf = ({ rootfs }: Bundle): WriterInContainer => new WriterInContainer(join(rootfs, 'data/status'));

it('is restored by its runtime from every round of the archive', async ({ skip }) => {
  await using client = await CriuClient.start({ criuPath: (await findCriu()).path });
  if ((await client.featureCheck({ memTrack: true })).memTrack !== true)
    skip('needs a kernel that tracks memory: npm run test:kernels');
  const scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  try {
    const image = makeImage(join(scratch, 'image'));
    const archive = join(scratch, 'c.tar');
    await using bundle = new Bundle(image, { args: WRITER_ARGS });
    await using container = await RuncContainer.run(bundle);
    await writerOf(bundle).started();
    const { preDumps } = await checkpointContainer({
      runc: container.id,
      stateRoot: container.stateRoot,
      output: archive,
      stop: true,
      preDump: { rounds: 2 },
    });
    expect(preDumps).toHaveLength(2);
    expect(preDumps[1]!.writtenBytes).toBeLessThan(preDumps[0]!.writtenBytes);
    await container.end();

    await using second = new Bundle(image);
    await using restored = RuncContainer.adopt(second, newId(), join(second.dir, 'runc-state'));
    await restoreContainer({ runc: restored.id, stateRoot: restored.stateRoot, bundle: second.dir, archive });
    expect(await writerOf(second).isWell()).toEqual(WELL);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});
