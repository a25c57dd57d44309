import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { filesBehind, openForWriting, sharedWritableMappings } from '../../../src/checkpoint/window/files-in-use.js';
import { upperFiles } from '../../../src/container/target/upper-files.js';
import { overlayOf, readRootView, type OverlayRoot } from '../../../src/container/target/mounts.js';
import { checkpointContainer } from '../../../src/container/index.js';
import { addProgram, Bundle, makeImage, must, RuncContainer } from '../../fixtures/container.js';
import { until } from '../../fixtures/processes.js';

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
  writeFileSync(join(image, 'etc/mapped'), Buffer.alloc(4096));
  addProgram(image, 'mapper', fileURLToPath(new URL('../../fixtures/mapper.c', import.meta.url)));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const FILES = ['etc/mapped', 'data/mapped'];
const inPlace = (bundle: Bundle): boolean =>
  FILES.every((name) => statSync(join(bundle.dir, 'upper', name), { throwIfNoEntry: false })?.size === 4096);
const counters = (bundle: Bundle): bigint[] =>
  FILES.map((name) => readFileSync(join(bundle.dir, 'upper', name)).readBigUInt64LE());

it('files of the upper directory are known by their own numbers, whichever numbers the overlay shows', async () => {
  await using bundle = new Bundle(image, { args: ['mapper'] });
  await using container = await RuncContainer.run(bundle);
  expect(await until(() => inPlace(bundle))).toBe(true);
  const { pid } = await container.state();
  const overlay = overlayOf((await readRootView(bundle.rootfs))!, bundle.rootfs);
  expect(overlay).toMatchObject({ upperDir: join(bundle.dir, 'upper'), lowerDirs: [image] });
  const [mapped, writable] = await Promise.all(
    [sharedWritableMappings([pid]), openForWriting([pid])].map(async (links) =>
      upperFiles(await filesBehind(links), overlay as OverlayRoot),
    ),
  );
  for (const name of FILES) {
    const { dev, ino } = statSync(join(bundle.dir, 'upper', name), { bigint: true });
    expect(mapped).toContain(`${dev}:${ino}`);
    expect(writable).toContain(`${dev}:${ino}`);
  }
});

it('what was written through a mapping after the first copy is in the archive', async () => {
  for (let round = 0; round < 3; round++) {
    await using bundle = new Bundle(image, { args: ['mapper'] });
    await using container = await RuncContainer.run(bundle);
    const archive = join(scratch, `mapped-${round}.tar`);
    expect(await until(() => inPlace(bundle) && counters(bundle).every((n) => n > 100n))).toBe(true);
    // Ended in the archive's very instant: the files stand where they stood.
    await checkpointContainer({ runc: container.id, stateRoot: container.stateRoot, output: archive, stop: true });
    const root = mkdtempSync(join(scratch, 'root-'));
    await must('sh', '-c', 'tar -xOf "$1" rootfs-diff.tar | tar -C "$2" -x', 'sh', archive, root);
    expect(FILES.map((name) => readFileSync(join(root, name)).readBigUInt64LE())).toEqual(counters(bundle));
  }
});
