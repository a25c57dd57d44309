import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { checkpointContainerEvery, listArchives } from '../../../src/index.js';
import { Bundle, makeImage, RuncContainer, WRITER_ARGS, WriterInContainer } from '../../fixtures/container.js';

it('checkpoints a container again and again, until it has ended it', { timeout: 400_000 }, async () => {
  const scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => rmSync(scratch, { recursive: true, force: true }));
  await using bundle = new Bundle(makeImage(join(scratch, 'image')), { args: WRITER_ARGS });
  await using container = await RuncContainer.run(bundle);
  await new WriterInContainer(join(bundle.rootfs, 'data/status')).started();
  const outputDir = join(scratch, 'archives');
  mkdirSync(outputDir, { mode: 0o700 });
  const finish = new AbortController();
  const named = { runc: container.id, stateRoot: container.stateRoot };
  const stopped: boolean[] = [];
  for await (const event of checkpointContainerEvery({
    ...named,
    ...{ outputDir, everyMs: 1, keep: 1, stop: true, finish: finish.signal },
  })) {
    expect(event.kind, JSON.stringify(event)).toBe('checkpoint');
    if (event.kind === 'checkpoint') stopped.push(event.report.stopped);
    if (stopped.length === 2) finish.abort();
  }
  expect(stopped).toEqual([false, false, true]);
  expect(readdirSync(outputDir)).toEqual([expect.stringMatching(/^runc-.*Z\.tar$/)]);
  const { archives } = await listArchives(outputDir);
  expect(archives).toMatchObject([{ state: 'whole', of: { kind: 'container', runtime: 'runc', name: container.id } }]);
});
