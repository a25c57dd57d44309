/** CRIU's images are put into their directory by the pass that verifies the archive. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, openSync, closeSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { ImageStaging, openArchive, verifyArchive } from '../../../src/archive/index.js';
import { archiveOf, tree, withScratch, writeArchive, type FixtureMember } from './archive-fixture.js';

const pages = Buffer.alloc(3 * 1024 * 1024 + 17, 'pages of memory ');
const images: FixtureMember[] = [
  { name: 'checkpoint', type: 'directory', mode: 0o750 },
  { name: 'checkpoint/core-1.img', stored: 'core', mode: 0o640 },
  { name: 'checkpoint/pages-1.img', stored: pages },
  { name: 'checkpoint/empty.img' },
  { name: 'checkpoint/1', type: 'directory' },
  { name: 'checkpoint/1/parent', type: 'symlink', linkname: '../2' },
  {
    name: 'checkpoint/sparse.img',
    size: 1 << 20,
    stored: Buffer.alloc(8192, 1),
    data: [
      { offset: 65536, length: 4096 },
      { offset: 131072, length: 4096 },
    ],
  },
];
const file: FixtureMember[] = [{ name: 'single', stored: 'one file' }];
const trees = [tree('single', 1)];

/** Stages what an archive of these members has, as a restore does, in a directory that is `made`. */
async function stage(dir: string, bytes: Buffer, into: string, signal?: AbortSignal): Promise<void> {
  const openFiles = (): string[] =>
    readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(into) ? [fd] : [];
      } catch {
        return []; // the one of the listing
      }
    });
  await using archive = await openArchive(await writeArchive(dir, bytes));
  mkdirSync(into, { recursive: true, mode: 0o700 });
  const fd = openSync(into, 'r');
  try {
    using staging = new ImageStaging(archive, 'checkpoint', { path: into, fd });
    await verifyArchive(archive, { place: staging.place, signal });
    await staging.finish();
  } finally {
    expect(openFiles()).toEqual([String(fd)]);
    closeSync(fd);
  }
}

it('makes the images, and nothing of the files, while it verifies', () =>
  withScratch(async (dir) => {
    const into = join(dir, 'images');
    await stage(dir, archiveOf([...file, ...images, { name: 'dump.log', stored: 'log' }], trees), into);
    expect(readdirSync(into).sort()).toEqual(['1', 'core-1.img', 'empty.img', 'pages-1.img', 'sparse.img']);
    expect(readFileSync(join(into, 'pages-1.img')).equals(pages)).toBe(true);
    expect(readFileSync(join(into, 'core-1.img'), 'utf8')).toBe('core');
    expect(statSync(join(into, 'core-1.img')).mode & 0o7777).toBe(0o640);
    expect(statSync(into).mode & 0o7777).toBe(0o750);
    expect(readlinkSync(join(into, '1/parent'))).toBe('../2');
    const sparse = Buffer.alloc(1 << 20);
    sparse.fill(1, 65536, 65536 + 4096).fill(1, 131072, 131072 + 4096);
    expect(readFileSync(join(into, 'sparse.img')).equals(sparse)).toBe(true);
  }));

it.each<[what: string, code: string, members: FixtureMember[]]>([
  ['a FIFO', 'UNSAFE_MEMBER', [{ name: 'checkpoint/fifo', type: 'fifo' }]],
  ['a link that leads elsewhere', 'UNSAFE_MEMBER', [{ name: 'checkpoint/a', type: 'symlink', linkname: '/etc' }]],
  ['a hard link', 'UNSAFE_MEMBER', [{ name: 'checkpoint/a', type: 'hardlink', linkname: 'single' }]],
  [
    'a chain of links without end',
    'UNSAFE_MEMBER',
    [
      { name: 'checkpoint/2', type: 'directory' },
      { name: 'checkpoint/2/parent', type: 'symlink', linkname: '../1' },
    ],
  ],
])('refuses %s among the images, and makes nothing of it or of what follows', (what, code, members) =>
  withScratch(async (dir) => {
    const into = join(dir, 'images');
    const after: FixtureMember = { name: 'checkpoint/zzz', stored: 'after' };
    const bytes = archiveOf([...file, ...images, ...members, after], trees);
    await expect(stage(dir, bytes, into), what).rejects.toMatchObject({ code });
    expect(readdirSync(into)).not.toContain('fifo');
    expect(readdirSync(into)).not.toContain('a');
  }),
);

it('says that the archive is damaged where it is, whatever the images are', () =>
  withScratch(async (dir) => {
    const bytes = archiveOf([...file, ...images, { name: 'checkpoint/fifo', type: 'fifo' }], trees);
    bytes[bytes.indexOf('one file')]! ^= 1;
    await expect(stage(dir, bytes, join(dir, 'images'))).rejects.toMatchObject({ code: 'ARCHIVE_DAMAGED' });
  }));

it('refuses an archive without images', () =>
  withScratch(async (dir) => {
    await expect(stage(dir, archiveOf(file, trees), join(dir, 'images'))).rejects.toMatchObject({
      code: 'MEMBER_MISSING',
    });
  }));

it('names the member that the disk has no room for', () =>
  withScratch(async (dir) => {
    const small = join(dir, 'small');
    mkdirSync(small);
    expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'none', small]).status).toBe(0);
    onTestFinished(() => void spawnSync('umount', ['-l', small]));
    await expect(stage(dir, archiveOf([...file, ...images], trees), join(small, 'images'))).rejects.toMatchObject({
      code: 'DESTINATION_FULL',
      facts: { member: 'checkpoint/pages-1.img' },
    });
    spawnSync('umount', ['-l', small]);
  }));

it('leaves no file open when it is cancelled', () =>
  withScratch(async (dir) => {
    const cancel = new AbortController();
    const reason = new Error('enough');
    setTimeout(() => cancel.abort(reason), 2);
    const many = Array.from({ length: 5000 }, (_, i): FixtureMember => ({ name: `checkpoint/x${i}`, stored: 'x' }));
    const bytes = archiveOf([...file, ...images, ...many], trees);
    await expect(stage(dir, bytes, join(dir, 'images'), cancel.signal)).rejects.toBe(reason);
  }));
