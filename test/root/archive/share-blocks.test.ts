import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  appendFileSync,
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  statfsSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  ArchiveWriter,
  openArchive,
  Stage,
  TreeStaging,
  verifyArchive,
  type HiddenTree,
} from '../../../src/archive/index.js';
import { listTree, Scratch, untar } from './trees.js';
import { unmount } from '../../fixtures/unmount.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';

const MIB = 1024 * 1024;
const FILE_BYTES = 64 * MIB;

/** A file system in a file, mounted. */
class Disk implements Disposable {
  readonly scratch = new Scratch();
  readonly path = this.scratch.dir('disk');

  constructor(type: 'xfs' | 'btrfs' | 'ext4') {
    const image = this.scratch.in('image');
    writeFileSync(image, '');
    truncateSync(image, 600 * MIB);
    execFileSync(`mkfs.${type}`, ['-q', image]);
    // XFS reserves up to a file's size again behind a file that grows, when it likes and until the file is closed:
    // room that nobody uses, and that would be counted.
    const options = type === 'xfs' ? 'loop,allocsize=4k' : 'loop';
    execFileSync('mount', ['-o', options, image, this.path]);
    endsWithTest(this);
  }

  in(name: string): string {
    return join(this.path, name);
  }

  /** How much room there is, in bytes. */
  free(): number {
    execFileSync('sync', ['-f', this.path]);
    const { bfree, bsize } = statfsSync(this.path);
    return bfree * bsize;
  }

  [Symbol.dispose](): void {
    if (!existsSync(this.scratch.path)) return;
    unmount(this.path);
    this.scratch[Symbol.dispose]();
  }
}

function randomBytes(count: number): Buffer {
  return execFileSync('head', ['-c', String(count), '/dev/urandom'], { maxBuffer: count });
}

/** So much room the refresh took, after `change`; the archive is checked against the tree. */
async function roomForRefresh(disk: Disk, change: (file: string) => void): Promise<number> {
  execFileSync('mkdir', [disk.in('tree')]);
  const file = disk.in('tree/large');
  writeFileSync(file, randomBytes(FILE_BYTES));
  writeFileSync(disk.in('tree/small'), 'small');
  const archive = disk.in('x.tar');
  await using writer = await ArchiveWriter.create({ outputPath: archive });
  const stage = new Stage(writer, [{ path: disk.in('tree'), name: 'tree' }]);
  await stage.precopy({ mapped: () => new Set() });
  change(file);
  const before = disk.free();
  await stage.refresh({ mapped: new Set(), writable: () => new Set() });
  expect(stage.copied.refreshed.bytes).toBeGreaterThanOrEqual(FILE_BYTES);
  const taken = before - disk.free();
  const stood = listTree(disk.in('tree'));
  // What happens to the file afterwards is not in the archive.
  const fd = openSync(file, 'r+');
  writeSync(fd, Buffer.alloc(MIB), 0, MIB, 5 * MIB);
  fsyncSync(fd);
  closeSync(fd);
  await writer.seal({ subject: {} });
  const opened = await openArchive(archive);
  await verifyArchive(opened).finally(() => opened.close());
  using out = new Scratch();
  untar(archive, out.in('out'));
  expect(listTree(out.in('out/tree'))).toEqual(stood);
  // The tar of others than GNU's, too.
  expect(
    execFileSync(
      'python3',
      [
        '-c',
        'import tarfile,sys; t=tarfile.open(sys.argv[1]); print(len(t.extractfile("tree/large").read()))',
        archive,
      ],
      { encoding: 'utf8' },
    ).trim(),
  ).toBe(String(readFileSync(out.in('out/tree/large')).length));
  return taken;
}

function inPlace(file: string): void {
  const fd = openSync(file, 'r+');
  writeSync(fd, Buffer.alloc(100, 'x'), 0, 100, 12_345_678);
  closeSync(fd);
}

const canMount = (type: string): boolean =>
  readFileSync('/proc/filesystems', 'latin1').includes(`\t${type}\n`) &&
  spawnSync(`mkfs.${type}`, ['-V']).error === undefined;

describe.each(['xfs', 'btrfs'] as const)('on %s', (type) => {
  const kernelHas = test.skipIf(!canMount(type));

  kernelHas('a large file that has changed in place is copied by reference', async () => {
    using disk = new Disk(type);
    // Its old blocks in the archive are given back.
    expect(await roomForRefresh(disk, inPlace)).toBeLessThan(FILE_BYTES / 4);
  });

  kernelHas('one that has grown, too', async () => {
    using disk = new Disk(type);
    expect(await roomForRefresh(disk, (file) => appendFileSync(file, 'grown'))).toBeLessThan(FILE_BYTES / 4);
  });

  kernelHas('a large file is put into its place by reference while it is verified', async () => {
    using disk = new Disk(type);
    execFileSync('mkdir', [disk.in('tree')]);
    writeFileSync(disk.in('tree/large'), randomBytes(FILE_BYTES + 1234));
    writeFileSync(disk.in('tree/small'), 'small');
    const output = disk.in('x.tar');
    await using writer = await ArchiveWriter.create({ outputPath: output });
    const stage = new Stage(writer, [{ path: disk.in('tree'), name: 'tree' }]);
    await stage.refresh({ mapped: new Set(), writable: () => new Set() });
    await writer.seal({ subject: {} });
    await using archive = await openArchive(output);
    const watch = { hidden: {}, willPlace: () => Promise.resolve() };
    const staging = new TreeStaging(archive, 'tree', { destination: disk.in('back'), watch, replace: undefined });
    const before = disk.free();
    await verifyArchive(archive, { place: staging.place });
    const tree = await staging.finished(undefined);
    await (tree as HiddenTree).takePlace();
    expect(before - disk.free()).toBeLessThan(FILE_BYTES / 4);
    expect(listTree(disk.in('back'))).toEqual(listTree(disk.in('tree')));
  });

  kernelHas('one whose first copy was made by nobody', async () => {
    using disk = new Disk(type);
    execFileSync('mkdir', [disk.in('tree')]);
    writeFileSync(disk.in('tree/large'), randomBytes(FILE_BYTES));
    await using writer = await ArchiveWriter.create({ outputPath: disk.in('x.tar') });
    const stage = new Stage(writer, [{ path: disk.in('tree'), name: 'tree', layout: 'nested' }]);
    const before = disk.free();
    await stage.refresh({ mapped: new Set(), writable: () => new Set() });
    expect(before - disk.free()).toBeLessThan(FILE_BYTES / 4);
    await writer.seal({ subject: {} });
    const opened = await openArchive(disk.in('x.tar'));
    await verifyArchive(opened).finally(() => opened.close());
  });
});

test('on ext4 it is copied', async () => {
  using disk = new Disk('ext4');
  expect(await roomForRefresh(disk, (file) => appendFileSync(file, 'grown'))).toBeGreaterThanOrEqual(FILE_BYTES);
});
