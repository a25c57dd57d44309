import { execFileSync } from 'node:child_process';
import {
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  realpathSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  ArchiveWriter,
  openArchive,
  Stage,
  verifyArchive,
  type FilesInUse,
  type TreeSource,
} from '../../../src/archive/index.js';
import { listTree, program, Scratch, untar, Writer } from './trees.js';
import { unmount } from '../../fixtures/unmount.js';

const none = (): FilesInUse => new Set();

interface Story {
  sources: TreeSource[];
  outputPath: string;
  mapped?: () => FilesInUse;
  writable?: () => FilesInUse | Promise<FilesInUse>;
  watchFromMs?: number;
  /** Between the first copy and the refresh. */
  meanwhile?: () => Promise<void> | void;
  /** When the copy is up to date, and the files still stand still. */
  then?: () => void;
  precopy?: boolean;
}

async function archive({
  sources,
  outputPath,
  mapped = none,
  writable = none,
  watchFromMs = 0,
  meanwhile,
  then,
  precopy = true,
}: Story): Promise<Stage> {
  await using writer = await ArchiveWriter.create({ outputPath, overwrite: true });
  const stage = new Stage(writer, sources, { watchFromMs });
  if (precopy) await stage.precopy({ mapped });
  await meanwhile?.();
  await stage.refresh({ mapped: mapped(), writable });
  then?.();
  await writer.seal({ subject: {} });
  const opened = await openArchive(outputPath);
  await verifyArchive(opened).finally(() => opened.close());
  return stage;
}

describe('under a writer that never rests, the archive is the tree as it stood', () => {
  for (const [mode, watchFromMs] of ['mmap', 'pwrite', 'rename', 'truncate', 'metadata', 'links'].flatMap(
    (mode) =>
      [
        [mode, 0],
        [mode, Infinity],
      ] as const,
  )) {
    test(`${mode}, ${watchFromMs === 0 ? 'the kernel tells' : 'all is looked at'}`, async () => {
      using scratch = new Scratch();
      const tree = scratch.dir('tree');
      writeFileSync(join(tree, 'quiet'), 'never touched');
      await using writer = await Writer.start(mode, tree);
      for (let round = 0; round < 8; round++) {
        let stood: string[] = [];
        await archive({
          sources: [{ path: tree, name: 'tree' }],
          outputPath: scratch.in('x.tar'),
          mapped: () => writer.mapped(),
          writable: () => writer.writable(),
          watchFromMs,
          meanwhile: () => writer.stop(),
          then: () => {
            stood = listTree(tree);
          },
        });
        writer.continue();
        rmSync(scratch.in('out'), { recursive: true, force: true });
        untar(scratch.in('x.tar'), scratch.in('out'));
        expect(listTree(scratch.in('out/tree'))).toEqual(stood);
      }
    });
  }
});

describe('what no stat can tell', () => {
  test(
    'a page that is writable already is written without a new ctime; a mapped file is copied again',
    { retry: 3 },
    async () => {
      // Tried again because the kernel may write the page back just then, which makes the next write a first one.
      using scratch = new Scratch();
      const tree = scratch.dir('tree');
      await using writer = await Writer.start('mmap', tree);
      await writer.stop();
      // Long enough ago for the clock's tick to be no explanation.
      await sleep(60);
      const before = {
        stat: statSync(join(tree, 'mapped'), { bigint: true }),
        data: readFileSync(join(tree, 'mapped')),
      };
      let after: typeof before | undefined;
      const change = async (): Promise<void> => {
        writer.continue();
        while (readFileSync(join(tree, 'mapped')).equals(before.data)) await sleep(1);
        await writer.stop();
        after = { stat: statSync(join(tree, 'mapped'), { bigint: true }), data: readFileSync(join(tree, 'mapped')) };
      };
      const stage = await archive({
        sources: [{ path: tree, name: 't' }],
        outputPath: scratch.in('x.tar'),
        mapped: () => writer.mapped(),
        meanwhile: change,
      });
      // The trap is real on this kernel: other contents, same stat.
      expect(after?.stat.ctimeNs).toBe(before.stat.ctimeNs);
      expect(after?.data.equals(before.data)).toBe(false);
      expect(stage.copied.refreshed.files).toBe(1);
      expect(
        readFileSync(join(untar(scratch.in('x.tar'), scratch.in('out')), 't/mapped')).equals(after?.data as Buffer),
      ).toBe(true);
    },
  );

  test('on tmpfs not even the first write through a mapping moves the ctime; nothing there is believed', async () => {
    using scratch = new Scratch();
    const tree = scratch.dir('tree');
    execFileSync('mount', ['-t', 'tmpfs', 'none', tree]);
    try {
      writeFileSync(join(tree, 'file'), Buffer.alloc(8192, 'a'));
      const before = statSync(join(tree, 'file'), { bigint: true });
      await sleep(60);
      // Opened, mapped, read, written, unmapped: no list of mappings taken before or after shows it.
      const change = (): void => void execFileSync(program('mapper'), [join(tree, 'file'), 'read-first']);
      const stage = await archive({
        sources: [{ path: tree, name: 't' }],
        outputPath: scratch.in('x.tar'),
        meanwhile: change,
      });
      expect(statSync(join(tree, 'file'), { bigint: true }).ctimeNs).toBe(before.ctimeNs);
      expect(stage.copied.refreshed.files).toBe(1);
      expect(
        readFileSync(join(untar(scratch.in('x.tar'), scratch.in('out')), 't/file'), 'latin1').startsWith('written'),
      ).toBe(true);
    } finally {
      unmount(tree);
    }
  });

  test('on a disk the first write through a mapping moves the ctime, even after it was read there', () => {
    using scratch = new Scratch();
    writeFileSync(scratch.in('file'), Buffer.alloc(8192, 'a'));
    const before = statSync(scratch.in('file'), { bigint: true });
    execFileSync(program('mapper'), [scratch.in('file'), 'read-first']);
    expect(readFileSync(scratch.in('file'), 'latin1').startsWith('written')).toBe(true);
    expect(statSync(scratch.in('file'), { bigint: true }).ctimeNs).not.toBe(before.ctimeNs);
  });

  test('a file that changed since the pass began, or in its tick, is copied by another pass', async () => {
    using scratch = new Scratch();
    const tree = scratch.dir('tree');
    writeFileSync(join(tree, 'old'), 'old');
    await sleep(60);
    let passes = 0;
    // Its stat is the same before, during and after the copy; only the time tells that it may not be believed.
    const mapped = (): FilesInUse => (passes++ === 0 && writeFileSync(join(tree, 'new'), 'new'), none());
    const stage = await archive({ sources: [{ path: tree, name: 't' }], outputPath: scratch.in('x.tar'), mapped });
    expect(stage.copied).toEqual({ precopied: { files: 3, bytes: 9 }, refreshed: { files: 0, bytes: 0 } });
    expect(stage.times.passes).toBe(2);
  });

  test('a tree in which nothing has changed for long is looked at once before the refresh', async () => {
    using scratch = new Scratch();
    let looks = 0;
    const mapped = (): FilesInUse => (looks++, none());
    // Nobody has written to that since it was installed.
    await archive({
      sources: [{ path: realpathSync('/bin/sh'), name: 'old' }],
      outputPath: scratch.in('x.tar'),
      mapped,
    });
    expect(looks).toBe(1 + 1);
    looks = 0;
    writeFileSync(scratch.in('new'), 'new');
    await archive({
      sources: [
        { path: realpathSync('/bin/sh'), name: 'old' },
        { path: scratch.in('new'), name: 'new' },
      ],
      outputPath: scratch.in('x.tar'),
      mapped,
    });
    expect(looks).toBeGreaterThan(1 + 1);
  });
});

describe('between the first copy and the refresh', () => {
  /** Makes a tree, changes it in the middle, and compares. */
  async function changed(
    make: (tree: string) => void,
    change: (tree: string) => void,
    layout: 'members' | 'nested' = 'members',
  ): Promise<void> {
    using scratch = new Scratch();
    const tree = scratch.dir('tree');
    make(tree);
    await archive({
      sources: [{ path: tree, name: 'tree', layout }],
      outputPath: scratch.in('x.tar'),
      meanwhile: () => change(tree),
    });
    untar(scratch.in('x.tar'), scratch.in('out'));
    if (layout === 'nested') untar(scratch.in('out/tree'), scratch.in('inner'));
    expect(listTree(scratch.in(layout === 'nested' ? 'inner' : 'out/tree'))).toEqual(listTree(tree));
  }

  test('files may come and go', () =>
    changed(
      (t) => ['a', 'b', 'c'].forEach((n) => writeFileSync(join(t, n), n.repeat(5000))),
      (t) => (unlinkSync(join(t, 'a')), writeFileSync(join(t, 'd'), 'd'), renameSync(join(t, 'b'), join(t, 'z'))),
    ));
  test('a nested tree may change too', () =>
    changed(
      (t) => ['a', 'b', 'c'].forEach((n) => writeFileSync(join(t, n), n.repeat(5000))),
      (t) => (unlinkSync(join(t, 'a')), writeFileSync(join(t, 'd'), 'd'), renameSync(join(t, 'b'), join(t, 'z'))),
      'nested',
    ));
  test('a file may become a directory, and a directory a file', () =>
    changed(
      (t) => (writeFileSync(join(t, 'a'), 'a'), mkdirSync(join(t, 'b')), writeFileSync(join(t, 'b/c'), 'c')),
      (t) => (
        unlinkSync(join(t, 'a')),
        mkdirSync(join(t, 'a')),
        writeFileSync(join(t, 'a/x'), 'x'),
        rmSync(join(t, 'b'), { recursive: true }),
        writeFileSync(join(t, 'b'), 'now a file')
      ),
    ));
  test('a directory may move with all that it holds', () =>
    changed(
      (t) => (
        mkdirSync(join(t, 'a/b/c'), { recursive: true }),
        writeFileSync(join(t, 'a/b/c/d'), 'd'),
        mkdirSync(join(t, 'e'))
      ),
      (t) => renameSync(join(t, 'a/b'), join(t, 'e/b')),
    ));
  test('the name that carries the data of a hard link may go', () =>
    changed(
      (t) => (
        writeFileSync(join(t, 'a'), 'shared'),
        linkSync(join(t, 'a'), join(t, 'b')),
        linkSync(join(t, 'a'), join(t, 'c'))
      ),
      (t) => unlinkSync(join(t, 'a')),
    ));
  test('hard linked data may change, and a name may be linked anew', () =>
    changed(
      (t) => (
        writeFileSync(join(t, 'a'), 'shared'),
        linkSync(join(t, 'a'), join(t, 'b')),
        writeFileSync(join(t, 'c'), 'alone')
      ),
      (t) => (
        writeFileSync(join(t, 'b'), 'longer than it was'),
        linkSync(join(t, 'c'), join(t, 'd')),
        unlinkSync(join(t, 'a')),
        linkSync(join(t, 'c'), join(t, 'a'))
      ),
    ));
  for (const layout of ['members', 'nested'] as const) {
    test(`names of one file may be long, many, and change hands, layout ${layout}`, () => {
      const deep = Array.from({ length: 5 }, (_, i) => String(i).repeat(200)).join('/');
      const names = ['short', 'n'.repeat(99), 'n'.repeat(255), `${deep}/name`, `${deep}/${'m'.repeat(255)}`];
      return changed(
        (t) => {
          mkdirSync(join(t, deep), { recursive: true });
          for (const [i, carrier] of names.entries()) {
            const at = (name: string): string => join(t, `${i}`, name);
            mkdirSync(at(deep), { recursive: true });
            writeFileSync(at(carrier), `data ${i}`);
            for (const name of names) if (name !== carrier) linkSync(at(carrier), at(name));
            for (let more = 0; more < 300; more++) linkSync(at(carrier), at(`name ${more}`));
          }
        },
        (t) => {
          const at = (i: number, name: string): string => join(t, `${i}`, name);
          for (const [i, name] of names.entries()) {
            unlinkSync(at(i, name));
            if (i % 2 === 0) linkSync(at((i + 1) % names.length, 'name 7'), at(i, name));
          }
          rmSync(join(t, '0'), { recursive: true });
          writeFileSync(at(1, 'name 8'), 'longer than all of them were, at the first pass');
          renameSync(at(2, 'name 9'), at(3, 'name 9'));
          for (let more = 0; more < 300; more++) unlinkSync(at(4, `name ${more}`));
        },
        layout,
      );
    });
  }
  test("the root's own header may grow", () =>
    changed(
      (t) => (writeFileSync(join(t, 'a'), 'a'), utimesSync(t, 1000, 1000)),
      (t) => execFileSync('touch', ['-d', '@1000.5', t]),
    ));
  test('a symbolic link may point elsewhere', () =>
    changed(
      (t) => symlinkSync('one', join(t, 'l')),
      (t) => (unlinkSync(join(t, 'l')), symlinkSync('another', join(t, 'l'))),
    ));

  test('what did not change is not copied again', async () => {
    using scratch = new Scratch();
    const tree = scratch.dir('tree');
    for (let i = 0; i < 500; i++) writeFileSync(join(tree, `f${i}`), `contents ${i}`);
    await sleep(60);
    const stage = await archive({
      sources: [{ path: tree, name: 't' }],
      outputPath: scratch.in('x.tar'),
      meanwhile: () => writeFileSync(join(tree, 'f250'), 'other'),
    });
    expect(stage.copied).toEqual({
      precopied: { files: 500, bytes: expect.any(Number) },
      refreshed: { files: 1, bytes: 5 },
    });
  });

  test('without a first copy everything is copied at once', async () => {
    using scratch = new Scratch();
    const tree = scratch.dir('tree');
    writeFileSync(join(tree, 'a'), 'a');
    const stage = await archive({
      sources: [{ path: tree, name: 't' }],
      outputPath: scratch.in('x.tar'),
      precopy: false,
    });
    expect(stage.copied).toEqual({ precopied: { files: 0, bytes: 0 }, refreshed: { files: 1, bytes: 1 } });
  });
});

describe('the refresh', () => {
  test('refuses a file that somebody goes on writing', async () => {
    using scratch = new Scratch();
    const tree = scratch.dir('tree');
    writeFileSync(join(tree, 'big'), Buffer.alloc(64 << 20, 1));
    await using writer = await ArchiveWriter.create({ outputPath: scratch.in('x.tar') });
    const stage = new Stage(writer, [{ path: tree, name: 't' }]);
    const fd = openSync(join(tree, 'big'), 'r+');
    let at = 0;
    const interval = setInterval(() => writeSync(fd, 'x', at++), 1);
    try {
      await expect(stage.refresh({ mapped: none(), writable: () => new Set() })).rejects.toMatchObject({
        name: 'ArchiveError',
        code: 'FILE_CHANGED',
        facts: { path: join(tree, 'big') },
      });
    } finally {
      clearInterval(interval);
      closeSync(fd);
    }
  });

  test('ends when it is told to', async () => {
    using scratch = new Scratch();
    const tree = scratch.dir('tree');
    for (let i = 0; i < 3000; i++) writeFileSync(join(tree, `f${i}`), 'x');
    await using writer = await ArchiveWriter.create({ outputPath: scratch.in('x.tar') });
    const stage = new Stage(writer, [{ path: tree, name: 't' }]);
    const controller = new AbortController();
    const reason = new Error('enough');
    await expect(
      stage.precopy({ mapped: none, signal: controller.signal, onProgress: () => controller.abort(reason) }),
    ).rejects.toBe(reason);
  });
});
