/** Trees of one archive whose destinations lie in one another: no tree says where the next one goes. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { checkpoint, restore } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { forge, takeApart } from '../../fixtures/forge-archive.js';

let writer: BusyWriter;
beforeEach(async () => {
  writer = await BusyWriter.start(freezerVersions()[0]!);
});
afterEach(() => writer[Symbol.asyncDispose]());

it.each(['given', 'recorded'])('a link in a tree leads no other tree elsewhere (destinations %s)', async (said) => {
  const app = writer.path('app');
  const host = writer.path('host');
  const inner = `${app}/var/data`;
  for (const dir of [app, `${app}/var`, inner, host]) mkdirSync(dir);
  writeFileSync(`${inner}/planted`, 'planted');
  const output = writer.path('honest.tar');
  await checkpoint({
    pid: writer.pid,
    files: [
      { path: app, name: 'app', exclude: ['var'] },
      { path: inner, name: 'data' },
    ],
    output,
    stateDir: writer.path('state'),
  });
  await writer.destroy();

  const archive = await takeApart(output);
  const last = archive.members.findLastIndex(({ name }) => String(name).startsWith('app'));
  archive.members.splice(last + 1, 0, { name: 'app/var', type: 'symlink', linkname: host });
  const tree = archive.trees.find(({ name }) => name === 'app')!;
  tree.entries++;
  const forged = writer.path('forged.tar');
  writeFileSync(forged, forge(archive));

  const elsewhere = writer.path('elsewhere');
  const files: Record<string, string> = said === 'given' ? { app: elsewhere, data: `${elsewhere}/var/data` } : {};
  rmSync(app, { recursive: true });
  const error: unknown = await restore({ archive: forged, files, stateDir: writer.path('state') }).catch(
    (e: unknown) => e,
  );
  expect(error).toMatchObject({ code: 'DESTINATION_UNSAFE' });
  expect(existsSync(`${host}/data`)).toBe(false);
  expect(existsSync(app) || existsSync(elsewhere)).toBe(false);
});
