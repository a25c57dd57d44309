import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { restore } from '../../../src/index.js';
import { forge, imageMembers, tree, treeSubject } from '../../fixtures/forge-archive.js';

/** An archive with one tree that has a place, and two that have none. */
function archiveWithoutPlaces(): { dir: string; archive: string } {
  const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const archive = join(dir, 'a.tar');
  const names = ['app', 'data', 'logs'];
  writeFileSync(
    archive,
    forge({
      members: [...names.map((name) => ({ name, type: 'directory' as const })), ...imageMembers],
      trees: [
        { ...tree('app', 1), source: join(dir, 'app') },
        { ...tree('data', 1), source: { base64: '/w==' } },
        { ...tree('logs', 1), source: '' },
      ],
      subject: treeSubject(),
    }),
  );
  return { dir, archive };
}

it.each([
  ['all that have none', [], ['data', 'logs']],
  ['those that have none and are given none', ['data'], ['logs']],
])('a restore names %s at once, before it makes anything', async (_, given, missing) => {
  const { dir, archive } = archiveWithoutPlaces();
  const files = Object.fromEntries(given.map((name) => [name, join(dir, name)]));
  const error: unknown = await restore({ archive, files, stateDir: join(dir, 'state') }).catch((e: unknown) => e);
  expect(error).toMatchObject({ code: 'NO_DESTINATION', facts: { trees: missing, tree: missing[0] } });
  const { message } = error as Error;
  expect(message).toContain(missing.join(', '));
  for (const name of missing) expect(message.split('\n')[1]).toContain(JSON.stringify(name));
  expect(readdirSync(dir).filter((name) => name !== 'state')).toEqual(['a.tar']);
});
