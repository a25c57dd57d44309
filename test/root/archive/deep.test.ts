/**
 * Trees deeper than a path can be long: archived and brought back in time that grows with their names, with few
 * descriptors.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ArchiveWriter, extractTree, openArchive, Stage, verifyArchive } from '../../../src/archive/index.js';
import { archiveOf, tree, writeArchive } from './archive-fixture.js';

const none = () => new Set<string>();

function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => void spawnSync('rm', ['-rf', dir]));
  mkdirSync(join(dir, 'tree'));
  return dir;
}

/** `levels` directories one in the other, each with what the script makes in it. */
function deepen(dir: string, levels: number, name: string, each = ''): void {
  const script = [
    'import os',
    `os.chdir(${JSON.stringify(join(dir, 'tree'))})`,
    `for i in range(${levels}):`,
    ...(each === '' ? [] : [`  ${each}`]),
    `  os.mkdir(${JSON.stringify(name)}); os.chdir(${JSON.stringify(name)})`,
    "open('f', 'w').write('at the bottom')",
  ];
  execFileSync('/usr/bin/python3', ['-c', script.join('\n')]);
}

/** Runs it, and tells how many descriptors more were open at most. */
async function countingFds<T>(act: () => Promise<T>): Promise<[result: T, most: number]> {
  const open = (): number => readdirSync('/proc/self/fd').length;
  const before = open();
  let most = 0;
  const timer = setInterval(() => (most = Math.max(most, open() - before)), 1);
  try {
    return [await act(), most];
  } finally {
    clearInterval(timer);
  }
}

async function archive(dir: string, signal?: AbortSignal): Promise<string> {
  const outputPath = join(dir, 'out.tar');
  await using writer = await ArchiveWriter.create({ outputPath });
  const stage = new Stage(writer, [{ path: join(dir, 'tree'), name: 'tree' }]);
  await stage.precopy({ mapped: none, signal });
  await stage.refresh({ mapped: none(), writable: none, signal });
  await writer.seal({ subject: { kind: 'test' } });
  return outputPath;
}

async function bringBack(dir: string, archivePath: string): Promise<void> {
  await using open = await openArchive(archivePath);
  const verified = await verifyArchive(open);
  await extractTree({ verified, tree: 'tree', destination: join(dir, 'back') });
}

/** Names, kinds, modes, sizes and times of all of a tree, in the order of a walk. */
function listing(path: string): string {
  return execFileSync('find', ['.', '-printf', '%d %f %y %m %s %T@\\n'], {
    cwd: path,
    encoding: 'latin1',
    maxBuffer: 1 << 28,
  });
}

test('a path of more than 4,096 bytes comes back, with hard links and attributes along it', async () => {
  const dir = scratch();
  deepen(dir, 30, 'd'.repeat(250), "open('g','w').write('x'); os.link('g','h'); os.symlink('g','s')");
  await bringBack(dir, await archive(dir));
  expect(listing(join(dir, 'back'))).toBe(listing(join(dir, 'tree')));
});

test('3,000 levels with something beside each come back, with a bounded number of descriptors', async () => {
  const dir = scratch();
  deepen(dir, 3000, 'd', "os.mkdir('a'); os.mkdir('z'); open('z/f','w').write('x')");
  const [archivePath, most] = await countingFds(() => archive(dir));
  expect(most).toBeLessThan(500);
  const [, whenBack] = await countingFds(() => bringBack(dir, archivePath));
  expect(whenBack).toBeLessThan(500);
  expect(listing(join(dir, 'back'))).toBe(listing(join(dir, 'tree')));
});

test('a cancelled copy of a deep tree ends within a second', async () => {
  const dir = scratch();
  deepen(dir, 12_000, 'd');
  const cancel = new AbortController();
  const reason = new Error('enough');
  let at = 0;
  setTimeout(() => {
    at = performance.now();
    cancel.abort(reason);
  }, 150);
  await expect(archive(dir, cancel.signal)).rejects.toBe(reason);
  expect(performance.now() - at).toBeLessThan(1000);
  rmSync(join(dir, 'out.tar'), { force: true });
});

test('a file 12,000 levels deep comes back from an archive that has no member for any directory on the way', async () => {
  const dir = scratch();
  const name = `tree/${'d/'.repeat(12_000)}file`;
  const archivePath = await writeArchive(
    dir,
    archiveOf(
      [
        { name: 'tree', type: 'directory' },
        { name, stored: 'deep' },
      ],
      [tree('tree', 2)],
    ),
  );
  await bringBack(dir, archivePath);
  expect(
    execFileSync('find', ['.', '-type', 'f', '-printf', '%d %f %s\\n'], { cwd: join(dir, 'back'), encoding: 'utf8' }),
  ).toBe('12001 file 4\n');
});

test('a path that no archive can hold is refused when the tree is copied', async () => {
  const dir = scratch();
  deepen(dir, 300, 'd'.repeat(250));
  await expect(archive(dir)).rejects.toMatchObject({
    name: 'ArchiveError',
    message: expect.stringContaining('a path of more than') as string,
  });
});
