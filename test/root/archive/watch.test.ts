import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe as suite, expect, test } from 'vitest';
import { ArchiveWriter, Stage } from '../../../src/archive/index.js';
import { ScannedTree, type ScanResult } from '../../../src/archive/scan/scanned-tree.js';
import { program, QuietWriter, Scratch } from './trees.js';
import { unmount } from '../../fixtures/unmount.js';

/** What this is for: from Linux 6.12 on, on a disk. */
const [major = 0, minor = 0] = release().split('.').map(Number);
const tells =
  (major > 6 || (major === 6 && minor >= 12)) &&
  [0xef53, 0x58465342, 0x9123683e, 0xf2f52010].includes(statfsSync(tmpdir()).type);
const describe = suite.skipIf(!tells);

const DIRECTORIES = 16;
const FILES = 16;

/** `d0/f0` to `d15/f15`. */
function plant(root: string): void {
  for (let d = 0; d < DIRECTORIES; d++) {
    mkdirSync(join(root, `d${d}`));
    for (let f = 0; f < FILES; f++) writeFileSync(join(root, `d${d}/f${f}`), `${d} ${f}`);
  }
}

/** What the last scan found, by name. */
function newsOf(files: ScannedTree): Record<string, string[]> {
  const names = (what: 'added' | 'changed' | 'removed'): string[] =>
    [...files.news(what)].flatMap((ids) => [...ids].map((id) => String(files.pathOf(id)))).sort();
  return { added: names('added'), changed: names('changed'), removed: names('removed') };
}

interface Story {
  root: string;
  /** Between the two looks. */
  change: () => Promise<void> | void;
  inodes?: ReadonlySet<bigint>;
}

/** Two looks at a tree that is watched, and two at the same by somebody who looks at all of it. */
async function twoLooks({
  root,
  change,
  inodes = new Set(),
}: Story): Promise<{ scan: ScanResult; news: Record<string, string[]>; all: Record<string, string[]> }> {
  const watched = new ScannedTree(root);
  const plain = new ScannedTree(root);
  try {
    expect(await watched.watch(new Int32Array()), 'this kernel tells of changes').toBe(true);
    await watched.scan();
    await plain.scan();
    await change();
    const scan = await watched.scan({ inodes });
    await plain.scan();
    return { scan, news: newsOf(watched), all: newsOf(plain) };
  } finally {
    watched.close();
    plain.close();
  }
}

const inodeOf = (path: string): bigint => statSync(path, { bigint: true }).ino;
const sh = (script: string, ...args: string[]): void => void execFileSync('sh', ['-euc', script, 'sh', ...args]);

/** What is done in a tree, and at most how many entries must be looked at to see it: the root, and what it touches. */
const changes: Record<string, [looks: number, change: (root: string, outside: string) => void]> = {
  nothing: [1, () => undefined],
  'a file is written': [2, (root) => appendFileSync(join(root, 'd3/f4'), 'more')],
  'a file is truncated by its path': [2, (root) => truncateSync(join(root, 'd3/f4'), 1)],
  'a file is copied onto another': [2, (root) => copyFileSync(join(root, 'd1/f1'), join(root, 'd3/f4'))],
  'a hole is punched': [2, (root) => sh('fallocate -p -l 2 "$1"', join(root, 'd3/f4'))],
  'mode, owner, time': [
    4,
    (root) => (
      chmodSync(join(root, 'd3/f4'), 0o600),
      chownSync(join(root, 'd5/f6'), 5, 6),
      utimesSync(join(root, 'd7/f8'), 1, 2)
    ),
  ],
  'an extended attribute comes': [2, (root) => sh('setfattr -n user.x -v y "$1"', join(root, 'd3/f4'))],
  'a file comes': [FILES + 3, (root) => writeFileSync(join(root, 'd3/new'), '')],
  'a file goes': [FILES + 2, (root) => unlinkSync(join(root, 'd3/f4'))],
  'a file is replaced by a link of that name': [
    FILES + 2,
    (root) => (unlinkSync(join(root, 'd3/f4')), symlinkSync('f5', join(root, 'd3/f4'))),
  ],
  'a link points elsewhere': [
    FILES + 3,
    (root) => (
      symlinkSync('f5', join(root, 'd3/l')),
      unlinkSync(join(root, 'd3/l')),
      symlinkSync('f6', join(root, 'd3/l'))
    ),
  ],
  'a file moves': [2 * FILES + 3, (root) => renameSync(join(root, 'd3/f4'), join(root, 'd5/moved'))],
  'a file moves over another': [FILES + 2, (root) => renameSync(join(root, 'd3/f4'), join(root, 'd3/f5'))],
  'a file that has one more name elsewhere is written there': [
    4,
    (root, outside) => (
      linkSync(join(root, 'd3/f4'), join(outside, 'name')),
      appendFileSync(join(outside, 'name'), 'x')
    ),
  ],
  'a directory changes its mode': [FILES + 2, (root) => chmodSync(join(root, 'd3'), 0o700)],
  'a directory comes, with files': [
    DIRECTORIES + 5,
    (root) => (mkdirSync(join(root, 'new/inner'), { recursive: true }), writeFileSync(join(root, 'new/inner/f'), '')),
  ],
  'a directory goes': [DIRECTORIES + 1, (root) => rmSync(join(root, 'd3'), { recursive: true })],
  'a directory moves': [DIRECTORIES + FILES + 2, (root) => renameSync(join(root, 'd3'), join(root, 'elsewhere'))],
  'a directory moves into another': [
    DIRECTORIES + 2 * FILES + 3,
    (root) => renameSync(join(root, 'd3'), join(root, 'd5/d3')),
  ],
  'two directories change places': [
    DIRECTORIES + 2 * FILES + 3,
    (root) => (
      renameSync(join(root, 'd3'), join(root, 'x')),
      renameSync(join(root, 'd5'), join(root, 'd3')),
      renameSync(join(root, 'x'), join(root, 'd5'))
    ),
  ],
  'an emptied directory is made anew': [
    DIRECTORIES + 2,
    (root) => (rmSync(join(root, 'd3'), { recursive: true }), mkdirSync(join(root, 'd3'))),
  ],
  'a directory is filled by another tree': [
    DIRECTORIES + FILES + 3,
    (root, outside) => (
      mkdirSync(join(outside, 'in')),
      writeFileSync(join(outside, 'in/f'), ''),
      rmSync(join(root, 'd3'), { recursive: true }),
      renameSync(join(outside, 'in'), join(root, 'd3'))
    ),
  ],
  'a directory becomes a file': [
    DIRECTORIES + 2,
    (root) => (rmSync(join(root, 'd3'), { recursive: true }), writeFileSync(join(root, 'd3'), '')),
  ],
  'a file without a name gets one': [
    FILES + 3,
    (root) =>
      sh('exec 3<>"$1/d3/t"; rm "$1/d3/t"; ln -L /proc/self/fd/3 "$1/d3/t2" 2>/dev/null || : >"$1/d3/t2"', root),
  ],
  'a file is written through a mapping and closed': [
    2,
    (root) => void execFileSync(program('mapper'), [join(root, 'd3/big'), 'read-first']),
  ],
};

describe('only what the kernel told of is looked at, and all is seen', () => {
  for (const [what, [looks, change]] of Object.entries(changes)) {
    test(what, async () => {
      using scratch = new Scratch();
      const root = scratch.dir('tree');
      plant(root);
      writeFileSync(join(root, 'd3/big'), Buffer.alloc(8192, 'a'));
      const { scan, news, all } = await twoLooks({ root, change: () => change(root, scratch.dir('outside')) });
      expect(news).toEqual(all);
      expect(scan.told).toBe(true);
      // `big` and one entry that only some kernels touch as well.
      expect(scan.looks).toBeLessThanOrEqual(looks + 2);
    });
  }

  test('on an overlay: what is written there is told of in its upper directory', async () => {
    using scratch = new Scratch();
    const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => scratch.dir(name)) as [
      string,
      string,
      string,
      string,
    ];
    writeFileSync(join(lower, 'low'), 'low');
    plant(upper);
    execFileSync('mount', [
      '-t',
      'overlay',
      'none',
      '-o',
      `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
      merged,
    ]);
    try {
      const fd = openSync(join(merged, 'd1/f1'), constants.O_RDWR);
      const { scan, news, all } = await twoLooks({
        root: upper,
        change: () => {
          appendFileSync(fd, 'written');
          truncateSync(join(merged, 'd2/f2'), 1);
          appendFileSync(join(merged, 'low'), 'copied up');
          rmSync(join(merged, 'd4'), { recursive: true });
          execFileSync(program('mapper'), [join(merged, 'd3/f3'), 'read-first']);
        },
      }).finally(() => closeSync(fd));
      expect(news).toEqual(all);
      expect(news['changed']).toEqual(expect.arrayContaining(['d1/f1', 'd2/f2', 'd3/f3']));
      expect(news['added']).toEqual(['low']);
      expect(scan).toMatchObject({ told: true });
      expect(scan.looks).toBeLessThan((DIRECTORIES * FILES) / 4);
    } finally {
      unmount(merged);
    }
  });
});

describe('where the kernel cannot tell, all is looked at', () => {
  test('something was mounted in the tree', async () => {
    using scratch = new Scratch();
    const root = scratch.dir('tree');
    plant(root);
    try {
      const { scan, news, all } = await twoLooks({
        root,
        change: () => void execFileSync('mount', ['-t', 'tmpfs', 'none', join(root, 'd3')]),
      });
      expect(scan.told).toBe(false);
      expect(news).toEqual(all);
    } finally {
      unmount(join(root, 'd3'));
    }
  });

  test('a mount elsewhere is none of its business', async () => {
    using scratch = new Scratch();
    const root = scratch.dir('tree');
    plant(root);
    const place = scratch.dir('tree-beside');
    try {
      const { scan } = await twoLooks({
        root,
        change: () => void execFileSync('mount', ['-t', 'tmpfs', 'none', place]),
      });
      expect(scan).toMatchObject({ told: true, looks: 1 });
    } finally {
      unmount(place);
    }
  });

  test('the root is another directory now', async () => {
    using scratch = new Scratch();
    const root = scratch.dir('tree');
    plant(root);
    const { scan, news, all } = await twoLooks({
      root,
      change: () => {
        renameSync(root, scratch.in('old'));
        mkdirSync(root);
        plant(root);
      },
    });
    expect(scan.told).toBe(false);
    expect(news).toEqual(all);
  });

  test('an overlay, a single file, a directory that is not there', async () => {
    using scratch = new Scratch();
    const [lower, upper, work, merged] = ['lower', 'upper', 'work', 'merged'].map((name) => scratch.dir(name)) as [
      string,
      string,
      string,
      string,
    ];
    execFileSync('mount', [
      '-t',
      'overlay',
      'none',
      '-o',
      `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
      merged,
    ]);
    try {
      writeFileSync(scratch.in('file'), '');
      for (const path of [merged, scratch.in('file'), scratch.in('missing')]) {
        const tree = new ScannedTree(path);
        expect(await tree.watch(new Int32Array())).toBe(false);
        tree.close();
      }
    } finally {
      unmount(merged);
    }
  });
});

describe('of some writes the kernel tells when the file is closed', () => {
  for (const how of ['map', 'aio'] as const) {
    test(`${how}: a file that is still open is seen when its inode is asked for`, async () => {
      using scratch = new Scratch();
      const root = scratch.dir('tree');
      plant(root);
      const file = join(root, 'd3/f4');
      writeFileSync(file, Buffer.alloc(4096));
      await using writer = await QuietWriter.start(file, how);
      const { scan, news, all } = await twoLooks({
        root,
        change: () => writer.write(),
        inodes: new Set([inodeOf(file)]),
      });
      expect(scan).toMatchObject({ told: true, looks: 2 });
      expect(news).toEqual(all);
      expect(news['changed']).toEqual(['d3/f4']);
    });
  }

  test('one that nobody asked for is found before the archive gets its name', async () => {
    using scratch = new Scratch();
    const root = scratch.dir('tree');
    plant(root);
    const file = join(root, 'd3/f4');
    writeFileSync(file, Buffer.alloc(4096));
    await using quiet = await QuietWriter.start(file, 'map');
    await using writer = await ArchiveWriter.create({ outputPath: scratch.in('x.tar') });
    const stage = new Stage(writer, [{ path: root, name: 'tree' }], { watchFromMs: 0 });
    await new Promise((resolve) => setTimeout(resolve, 60)); // old enough for its copy to be believed
    await stage.precopy({ mapped: () => new Set() });
    await quiet.write();
    await new Promise((resolve) => setTimeout(resolve, 60)); // for the clock to tick
    await stage.refresh({ mapped: new Set(), writable: () => new Set() });
    await expect(writer.seal({ subject: {} })).rejects.toMatchObject({
      name: 'ArchiveError',
      code: 'CHANGE_UNNOTICED',
      facts: { path: file },
    });
    expect(existsSync(scratch.in('x.tar'))).toBe(false);
  });

  const afterwards: Record<string, (root: string) => void> = {
    'what happens after the files stood still is no such change': (root) => {
      appendFileSync(join(root, 'd3/f4'), 'more');
      renameSync(join(root, 'd5'), join(root, 'd6/d5'));
      rmSync(join(root, 'd7'), { recursive: true });
      renameSync(join(root, 'd8'), join(root, 'd7'));
    },
    'a tree that is gone by then is none either': (root) => rmSync(root, { recursive: true }),
  };
  for (const [what, happen] of Object.entries(afterwards)) {
    test(what, async () => {
      using scratch = new Scratch();
      const root = scratch.dir('tree');
      plant(root);
      await using writer = await ArchiveWriter.create({ outputPath: scratch.in('x.tar') });
      const stage = new Stage(writer, [{ path: root, name: 'tree' }], { watchFromMs: 0 });
      await stage.precopy({ mapped: () => new Set() });
      await stage.refresh({ mapped: new Set(), writable: () => new Set() });
      await new Promise((resolve) => setTimeout(resolve, 20)); // a frozen window is longer than the clock's tick
      happen(root);
      await writer.seal({ subject: {} });
      expect(existsSync(scratch.in('x.tar'))).toBe(true);
    });
  }
});
