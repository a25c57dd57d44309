import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { appendFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { checkpoint, prepare, StillframeError } from '../../../src/index.js';
import { PreparedDirectory } from '../../../src/checkpoint/prepare/prepared-directory.js';
import { startDetached } from '../../fixtures/detached.js';
import { stillframe } from '../../fixtures/program.js';

let dir: string;
let archive: string;

function scratch(): string {
  const path = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** One archive for all: of a sleeping program, and a tree with one of each kind. */
beforeAll(async () => {
  const place = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  const data = join(place, 'data');
  mkdirSync(join(data, 'inner'), { recursive: true });
  writeFileSync(join(data, 'a'), 'first');
  writeFileSync(join(data, 'inner', 'b'), 'second');
  const child = (await import('node:child_process')).spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' });
  archive = join(place, 'app.tar');
  try {
    await checkpoint({ pid: child.pid!, adopt: true, files: [{ path: data, name: 'data' }], output: archive });
  } finally {
    child.kill('SIGKILL');
  }
  return () => rmSync(place, { recursive: true, force: true });
});

async function prepared(): Promise<string> {
  dir = join(scratch(), 'warm');
  await prepare({ archive, dir });
  return dir;
}

const codeOf = async (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'none',
    (error: unknown) => (error as StillframeError).code,
  );

test('a prepared directory has the images, the trees and nobody else can enter it', { timeout: 60_000 }, async () => {
  const dir = await prepared();
  expect(statSync(dir).mode & 0o777).toBe(0o700);
  expect(readFileSync(join(dir, 'trees/0/inner/b'), 'utf8')).toBe('second');
  expect(existsSync(join(dir, 'images/inventory.img'))).toBe(true);
  using opened = await PreparedDirectory.open(dir);
  expect(opened.info.trees).toEqual([{ name: 'data', entry: '0' }]);
  expect(readdirSync(join(dir, '..'))).toEqual(['warm']);
});

describe('a change is noticed, and the file is named', () => {
  test.each<[string, (dir: string) => void, string, string]>([
    ['longer', (dir) => appendFileSync(join(dir, 'trees/0/a'), '.'), 'trees/0/a', 'is not as it was unpacked'],
    [
      'rewritten with its old times',
      (dir) => {
        const path = join(dir, 'trees/0/a');
        const { atime, mtime } = statSync(path);
        writeFileSync(path, 'FIRST');
        utimesSync(path, atime, mtime);
      },
      'trees/0/a',
      'is not as it was unpacked',
    ],
    ['another mode', (dir) => chmodSync(join(dir, 'trees/0/inner'), 0o711), 'trees/0/inner', 'is not as it was'],
    ['another owner', (dir) => chownSync(join(dir, 'trees/0/inner/b'), 1, 1), 'trees/0/inner/b', 'is not as it was'],
    ['removed', (dir) => rmSync(join(dir, 'trees/0/a')), 'trees/0/a', 'is missing'],
    ['the last one removed', (dir) => rmSync(join(dir, 'trees/0/inner/b')), 'trees/0/inner/b', 'is missing'],
    ['added', (dir) => writeFileSync(join(dir, 'trees/0/aa'), ''), 'trees/0/aa', 'is new'],
    ['added at the end', (dir) => writeFileSync(join(dir, 'trees/0/inner/c'), ''), 'trees/0/inner/c', 'is new'],
    ['an image', (dir) => appendFileSync(join(dir, 'images/pstree.img'), '.'), 'images/pstree.img', 'is not as it was'],
  ])('%s', { timeout: 60_000 }, async (_name, change, path, what) => {
    const dir = await prepared();
    change(dir);
    await expect(PreparedDirectory.open(dir)).rejects.toMatchObject({ code: 'PREPARED_CHANGED' });
    await expect(PreparedDirectory.open(dir)).rejects.toThrow(`${join(dir, path)} ${what}`);
  });
});

test('one that others can enter, or that is none, is refused', { timeout: 60_000 }, async () => {
  const dir = await prepared();
  chmodSync(dir, 0o755);
  expect(await codeOf(PreparedDirectory.open(dir))).toBe('PREPARED_UNSAFE');
  chownSync(dir, 1, 1);
  expect(await codeOf(PreparedDirectory.open(dir))).toBe('PREPARED_UNSAFE');
  expect(await codeOf(PreparedDirectory.open(scratch()))).toBe('NOT_PREPARED');
  expect(await codeOf(PreparedDirectory.open(archive))).toBe('NOT_PREPARED');
});

test('a name that is taken, or where others could rename it, is refused before anything is read', async () => {
  const place = scratch();
  const file = join(place, 'file');
  writeFileSync(file, '');
  const open = join(place, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  for (const dir of [place, file, join(open, 'warm'), join(place, 'nowhere/warm')])
    expect(await codeOf(prepare({ archive: '/nowhere', dir })), dir).toBe('PREPARE_REFUSED');
  const empty = join(place, 'empty');
  mkdirSync(empty);
  await prepare({ archive, dir: empty });
  expect(readdirSync(empty).toSorted()).toEqual(['images', 'prepared.json', 'record', 'trees']);
});

test('what fails or is cancelled leaves nothing', { timeout: 60_000 }, async () => {
  const place = scratch();
  const dir = join(place, 'warm');
  const damaged = join(place, 'damaged.tar');
  const bytes = readFileSync(archive);
  bytes[bytes.length >> 1]! ^= 1;
  writeFileSync(damaged, bytes);
  await expect(prepare({ archive: damaged, dir })).rejects.toThrow(StillframeError);
  for (const phase of ['verify', 'extract', 'record'] as const) {
    const cancelling = new AbortController();
    const onProgress = (event: { phase: string; at: string }): void => {
      if (event.phase === phase && event.at === 'start') cancelling.abort(new Error('enough'));
    };
    await expect(prepare({ archive, dir, signal: cancelling.signal, onProgress })).rejects.toThrow('enough');
    expect(readdirSync(place), phase).toEqual(['damaged.tar']);
  }
});

test('a killed prepare leaves nothing', { timeout: 60_000 }, async () => {
  const place = scratch();
  const source = `const { prepare } = await import(${JSON.stringify(new URL('../../../dist/src/index.js', import.meta.url).pathname)});
    await prepare({ archive: ${JSON.stringify(archive)}, dir: ${JSON.stringify(join(place, 'warm'))},
      onProgress: ({ phase, at }) => phase === 'record' && at === 'start' && process.kill(process.pid, 'SIGKILL') });`;
  await startDetached(process.execPath, ['--input-type=module', '-e', source]);
  await expect.poll(() => readdirSync(place), { timeout: 20_000 }).toHaveLength(1);
  await expect.poll(() => readdirSync(place), { timeout: 20_000 }).toEqual([]);
});

test('the command prints the directory, and says what is wrong', { timeout: 60_000 }, async () => {
  const dir = join(scratch(), 'warm');
  expect(await stillframe('prepare', archive, dir)).toMatchObject({ status: 0, stdout: `${dir}\n` });
  const again = await stillframe('prepare', archive, dir);
  expect(again).toMatchObject({ status: 1, stdout: '' });
  expect(again.stderr).toContain('[PREPARE_REFUSED]');
});
