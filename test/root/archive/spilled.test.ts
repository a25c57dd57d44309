/** Trees of which next to nothing is in memory: the rest of what is known of them is in the scratch file. */
import { execFileSync } from 'node:child_process';
import { closeSync, linkSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ArchiveWriter, openArchive, Stage, verifyArchive } from '../../../src/archive/index.js';
import { FileTree } from '../../../src/archive/scan/scanned-tree.js';
import { Scratch as ScratchFile } from '../../../src/archive/tables/page-file.js';
import { listTree, Scratch, untar } from './trees.js';
import { unmount } from '../../fixtures/unmount.js';

const LIMITS = { fixed: 0, cached: 3, tables: 6 };
const MANY = 2500;

/** More names than one reading of a directory gives, and more than one page of entries. */
function makeMany(dir: string): void {
  for (let i = 0; i < MANY; i++)
    writeFileSync(join(dir, `a name of some length, number ${i}`), i % 7 === 0 ? 'data' : '');
}

function names(tree: FileTree, what: 'added' | 'changed' | 'removed'): string[] {
  return [...tree.news(what)].flatMap((ids) => [...ids].map((id) => tree.pathOf(id).toString('latin1'))).sort();
}

test('a scan tells what is new, changed and gone in a directory of many files', async () => {
  using directory = new Scratch();
  const root = directory.dir('tree');
  makeMany(root);
  const fd = openSync(directory.in('scratch'), 'w+');
  const scratch = new ScratchFile(fd, LIMITS);
  const tree = new FileTree(root, {}, scratch);
  await tree.scan();
  expect(names(tree, 'added')).toEqual(['', ...readdirSync(root)].sort());
  expect([names(tree, 'changed'), names(tree, 'removed')]).toEqual([[], []]);

  await tree.scan();
  expect([names(tree, 'added'), names(tree, 'changed'), names(tree, 'removed')]).toEqual([[], [], []]);

  const before = new Set(readdirSync(root));
  const changed = ['']; // the root's own times
  for (let i = 0; i < MANY; i += 3) rmSync(join(root, `a name of some length, number ${i}`));
  for (let i = 1; i < MANY; i += 30) {
    writeFileSync(join(root, `a name of some length, number ${i}`), 'changed');
    changed.push(`a name of some length, number ${i}`);
  }
  for (let i = 2; i < MANY; i += 30)
    renameSync(join(root, `a name of some length, number ${i}`), join(root, `renamed ${i}`));
  mkdirSync(join(root, 'a name of some length, number 0'));
  writeFileSync(join(root, 'a name of some length, number 0', 'below'), '');
  await tree.scan();
  const after = new Set(readdirSync(root));
  // What is another kind of file now is still that name.
  expect(names(tree, 'changed')).toEqual([...changed, 'a name of some length, number 0'].sort());
  expect(names(tree, 'added')).toEqual(
    [...[...after].filter((name) => !before.has(name)), 'a name of some length, number 0/below'].sort(),
  );
  expect(names(tree, 'removed')).toEqual([...before].filter((name) => !after.has(name)).sort());
  scratch.close();
  tree.close();
  closeSync(fd);
});

test('an archive holds what the tree holds, hard links too, and is the one that is made in memory', async () => {
  using directory = new Scratch();
  const root = directory.dir('tree');
  makeMany(directory.dir('tree/files'));
  for (let i = 0; i < 800; i++) {
    const file = join(directory.dir('tree/files'), `a name of some length, number ${i}`);
    linkSync(file, join(directory.dir('tree/links'), `link ${i}`));
    if (i % 2 === 0) linkSync(file, join(root, `third name ${i}`));
  }
  const write = async (outputPath: string, scratch: typeof LIMITS | undefined): Promise<void> => {
    await using writer = await ArchiveWriter.create({ outputPath, scratch });
    const stage = new Stage(writer, [{ path: root, name: 'tree' }]);
    await stage.precopy({ mapped: () => new Set() });
    await stage.refresh({ mapped: new Set(), writable: () => new Set() });
    await writer.seal({ subject: {} });
    const opened = await openArchive(outputPath);
    await verifyArchive(opened).finally(() => opened.close());
  };
  await write(directory.in('spilled.tar'), LIMITS);
  await write(directory.in('memory.tar'), undefined);
  const stood = listTree(root);
  untar(directory.in('spilled.tar'), directory.in('spilled'));
  untar(directory.in('memory.tar'), directory.in('memory'));
  expect(listTree(directory.in('spilled/tree'))).toEqual(stood);
  expect(listTree(directory.in('memory/tree'))).toEqual(stood);
  expect(readdirSync(directory.path).sort()).toEqual(['memory', 'memory.tar', 'spilled', 'spilled.tar', 'tree']);
});

test('a disk that is full while pages are written to it ends the work with a reason, and nothing is left', async () => {
  using directory = new Scratch();
  makeMany(directory.dir('tree'));
  const out = directory.dir('out');
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'none', out]);
  try {
    await using writer = await ArchiveWriter.create({ outputPath: join(out, 'x.tar'), scratch: LIMITS });
    const stage = new Stage(writer, [{ path: directory.in('tree'), name: 'tree' }]);
    await expect(stage.precopy({ mapped: () => new Set() })).rejects.toMatchObject({
      code: 'OUTPUT_FULL',
      cause: { code: 'ENOSPC', syscall: 'scratch' },
    });
    await writer.abort();
    expect(readdirSync(out)).toEqual([]);
  } finally {
    unmount(out);
  }
});
