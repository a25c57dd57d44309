/** Directories of so many files that neither one reading gives all their names nor one table has all their records. */
import { linkSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ArchiveWriter, openArchive, Stage, verifyArchive } from '../../../src/archive/index.js';
import { ScannedTree } from '../../../src/archive/scan/scanned-tree.js';
import { listTree, Scratch, untar } from './trees.js';

const MANY = 4200;

function makeMany(dir: string): void {
  for (let i = 0; i < MANY; i++)
    writeFileSync(join(dir, `a name of some length, number ${i}`), i % 7 === 0 ? 'data' : '');
}

function names(tree: ScannedTree, what: 'added' | 'changed' | 'removed'): string[] {
  return [...tree.news(what)].flatMap((ids) => [...ids].map((id) => tree.pathOf(id).toString('latin1'))).sort();
}

test('a scan tells what is new, changed and gone in a directory of many files', async () => {
  using directory = new Scratch();
  const root = directory.dir('tree');
  makeMany(root);
  const tree = new ScannedTree(root);
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
  tree.close();
});

test('an archive holds what the tree holds, hard links too', async () => {
  using directory = new Scratch();
  const root = directory.dir('tree');
  makeMany(directory.dir('tree/files'));
  for (let i = 0; i < 800; i++) {
    const file = join(directory.dir('tree/files'), `a name of some length, number ${i}`);
    linkSync(file, join(directory.dir('tree/links'), `link ${i}`));
    if (i % 2 === 0) linkSync(file, join(root, `third name ${i}`));
  }
  await using writer = await ArchiveWriter.create({ outputPath: directory.in('x.tar') });
  const stage = new Stage(writer, [{ path: root, name: 'tree' }]);
  await stage.precopy({ mapped: () => new Set() });
  await stage.refresh({ mapped: new Set(), writable: () => new Set() });
  await writer.seal({ subject: {} });
  const opened = await openArchive(directory.in('x.tar'));
  await verifyArchive(opened).finally(() => opened.close());
  const stood = listTree(root);
  untar(directory.in('x.tar'), directory.in('out'));
  expect(listTree(directory.in('out/tree'))).toEqual(stood);
  expect(readdirSync(directory.path).sort()).toEqual(['out', 'tree', 'x.tar']);
});
