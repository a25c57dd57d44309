import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { mappedUpperFiles } from '../../../src/container/mapped-upper.js';
import { overlayOf, readMounts, type OverlayRoot } from '../../../src/container/mounts.js';
import { checkpointContainer } from '../../../src/container/index.js';
import { Bundle, makeImage, must, RuncContainer } from '../../fixtures/container.js';
import { until } from '../../fixtures/processes.js';

/** Counts in a file of the image and in a new one, both mapped shared: no write after the first touches a timestamp. */
const SOURCE = `
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
static volatile unsigned long *map(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	ftruncate(fd, 4096);
	return mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}
int main(void)
{
	volatile unsigned long *copied = map("/etc/mapped"), *fresh = map("/data/mapped");
	for (;;) { ++*copied; ++*fresh; sched_yield(); }
}
`;

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
  writeFileSync(join(image, 'etc/mapped'), Buffer.alloc(4096));
  writeFileSync(join(scratch, 'mapper.c'), SOURCE);
  const cc = spawnSync('cc', ['-static', '-O1', '-w', '-o', join(image, 'bin/mapper'), join(scratch, 'mapper.c')], { encoding: 'utf8' });
  if (cc.status !== 0) throw new Error(`needs a C compiler and a static libc: ${cc.stderr}`);
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const FILES = ['etc/mapped', 'data/mapped'];
const inPlace = (bundle: Bundle): boolean => FILES.every((name) => statSync(join(bundle.dir, 'upper', name), { throwIfNoEntry: false })?.size === 4096);
const counters = (bundle: Bundle): bigint[] => FILES.map((name) => readFileSync(join(bundle.dir, 'upper', name)).readBigUInt64LE());

it('files of the upper directory are known by their own numbers, whichever numbers the overlay shows', async () => {
  await using bundle = new Bundle(image, { args: ['mapper'] });
  await using container = await RuncContainer.run(bundle);
  expect(await until(() => inPlace(bundle))).toBe(true);
  const { pid } = await container.state();
  const overlay = overlayOf(await readMounts(pid), bundle.rootfs);
  expect(overlay).toMatchObject({ upperDir: join(bundle.dir, 'upper'), lowerDirs: [image] });
  const mapped = mappedUpperFiles([pid], overlay as OverlayRoot);
  for (const name of FILES) {
    const { dev, ino } = statSync(join(bundle.dir, 'upper', name), { bigint: true });
    expect(mapped).toContain(`${dev}:${ino}`);
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
