/** A restore whose destinations are occupied says so once, of all of them, before anything is touched. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { restore } from '../../../src/index.js';
import { forge, imageMembers, tree, treeSubject, type ForgedMember } from '../../fixtures/forge-archive.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** Of trees that lay in `dir`: names with a dot are of single files. */
function archiveOf(names: readonly string[]): string {
  const archive = join(dir, 'a.tar');
  const members = names.flatMap((name): ForgedMember[] =>
    name.includes('.')
      ? [{ name, stored: 'archived' }]
      : [
          { name, type: 'directory' },
          { name: `${name}/file`, stored: 'archived' },
        ],
  );
  const trees = names.map((name) => ({ ...tree(name, name.includes('.') ? 1 : 2), source: join(dir, name) }));
  writeFileSync(archive, forge({ members: [...imageMembers, ...members], trees, subject: treeSubject() }));
  return archive;
}

const restored = (archive: string, files: Record<string, string> = {}): Promise<unknown> =>
  restore({ archive, files, stateDir: join(dir, 'state') });

it.each(['recorded', 'given'])('five occupied destinations are one error (%s)', async (said) => {
  const names = ['a', 'b', 'c', 'd', 'e'];
  const archive = archiveOf(names);
  for (const name of names) {
    mkdirSync(join(dir, name));
    writeFileSync(join(dir, name, 'mine'), '');
  }
  const paths = names.map((name) => join(dir, name));
  const files = said === 'given' ? Object.fromEntries(names.map((name) => [name, join(dir, name)])) : {};
  const error: unknown = await restored(archive, files).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'DESTINATION_NOT_EMPTY', facts: { path: paths[0], paths, count: 5 } });
  for (const path of paths) expect((error as Error).message).toContain(path);
  expect(names.map((name) => readdirSync(join(dir, name)))).toEqual(names.map(() => ['mine']));
});

it('files and directories in the way are named together, and what is free or empty is not', async () => {
  const archive = archiveOf(['a', 'b', 'c', 'one.txt', 'two.txt']);
  mkdirSync(join(dir, 'a/full'), { recursive: true });
  mkdirSync(join(dir, 'b'));
  writeFileSync(join(dir, 'one.txt'), 'mine');
  const paths = ['a', 'one.txt'].map((name) => join(dir, name));
  await expect(restored(archive)).rejects.toMatchObject({ code: 'DESTINATION_EXISTS', facts: { paths, count: 2 } });
  expect(existsSync(join(dir, 'c'))).toBe(false);
});

it('one alone is told as before', async () => {
  const archive = archiveOf(['a', 'b']);
  writeFileSync(join(dir, 'a'), 'mine');
  await expect(restored(archive)).rejects.toMatchObject({
    code: 'DESTINATION_EXISTS',
    facts: { path: join(dir, 'a') },
    message: expect.stringContaining('the destination exists') as string,
  });
});

it('a thousand are counted, and the first ten shown', async () => {
  const names = Array.from({ length: 1000 }, (_, i) => `t${i}`);
  const archive = archiveOf(names);
  for (const name of names) mkdirSync(join(dir, name, 'full'), { recursive: true });
  const error: unknown = await restored(archive).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ facts: { count: 1000, paths: expect.objectContaining({ length: 100 }) as string[] } });
  expect((error as Error).message).toContain('/t9, and 990 more');
});

it('a link in a recorded place is still the refusal that it was', async () => {
  const archive = archiveOf(['a']);
  mkdirSync(join(dir, 'real/full'), { recursive: true });
  symlinkSync(join(dir, 'real'), join(dir, 'a'));
  await expect(restored(archive)).rejects.not.toMatchObject({ code: 'DESTINATION_NOT_EMPTY' });
  expect(readdirSync(join(dir, 'real'))).toEqual(['full']);
});
