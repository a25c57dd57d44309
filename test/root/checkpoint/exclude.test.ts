/** What `exclude` leaves out of a file tree is said at the checkpoint and at the restore, and is missed by nobody. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkpoint, inspect, planCheckpoint, restore } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { stillframe } from '../../fixtures/program.js';

const version = freezerVersions().at(-1)!;
const EXCLUDE = ['cache', '**/*.obj'];

/** Beside the writer's own files: some to leave out, and some with names almost like theirs. */
function makeFiles(data: string): void {
  for (const dir of ['cache/deep', 'sub/cache']) mkdirSync(join(data, dir), { recursive: true });
  for (const file of ['cache/deep/a', 'sub/cache/b', 'x.obj', 'sub/y.obj', 'sub/z.obj.keep', 'cached'])
    writeFileSync(join(data, file), 'x');
}

function there(data: string): Record<string, boolean> {
  const names = ['cache', 'sub/cache/b', 'x.obj', 'sub/y.obj', 'sub/z.obj.keep', 'cached'];
  return Object.fromEntries(names.map((name) => [name, existsSync(join(data, name))]));
}

const EXPECTED = {
  cache: false,
  'sub/cache/b': true,
  'x.obj': false,
  'sub/y.obj': false,
  'sub/z.obj.keep': true,
  cached: true,
};

it.each([
  ['as all are looked at while it stands still', Infinity],
  ['as the kernel tells what changes', 0],
])('patterns leave files out, %s, and the restore says so', async (_, watchFromMs) => {
  await using writer = await BusyWriter.start(version);
  makeFiles(writer.data);
  const output = writer.path('a.tar');
  const files = [{ path: writer.data, name: 'data', exclude: EXCLUDE }];
  const { warnings } = await checkpoint({ pid: writer.pid, files, output, watchFromMs });
  expect(warnings).toEqual([]);
  expect((await inspect(output)).manifest?.trees).toMatchObject([{ name: 'data', exclude: EXCLUDE }]);

  await writer.destroy();
  const restored = await restore({ archive: output });
  expect(restored.excluded).toEqual([{ tree: 'data', patterns: EXCLUDE }]);
  expect(there(writer.data)).toEqual(EXPECTED);
  expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
});

it('a file in use that is left out is warned of like one outside of the trees', async () => {
  await using writer = await BusyWriter.start(version);
  const files = [{ path: writer.data, name: 'data', exclude: ['*'] }];
  const { warnings, trees } = await planCheckpoint({ pid: writer.pid, files, observeMs: 0 });
  expect(trees).toMatchObject([{ entries: 1 }]);
  const [outside] = warnings.filter((warning) => warning.code === 'FILES_NOT_ARCHIVED');
  expect(outside?.facts.files.map(({ path }) => String(path)).join()).toContain(writer.data);
  const all = await planCheckpoint({ pid: writer.pid, files: [{ path: writer.data, name: 'data' }], observeMs: 0 });
  expect(all.warnings).toEqual([]);
});

it.each([
  ['/abs', 'relative'],
  ['a/../b', "without '.' and '..'"],
  ['', 'not empty'],
])('the pattern %j is refused', async (pattern, why) => {
  const files = [{ path: '/srv', name: 'data', exclude: [pattern] }];
  await expect(checkpoint({ pid: process.pid, files, output: '/nowhere' })).rejects.toMatchObject({
    code: 'BAD_OPTION',
    message: expect.stringContaining(why) as string,
  });
});

it.each([
  ['copied ahead', true],
  ['looked at in the window only', false],
])(
  'a pattern that leaves nothing out, of a tree that is %s, is warned of, and refused with strict',
  async (_, precopy) => {
    await using writer = await BusyWriter.start(version);
    makeFiles(writer.data);
    mkdirSync(writer.path('other'));
    writeFileSync(join(writer.path('other'), 'log.1'), 'x');
    const files = [
      // A name that two patterns mean makes neither useless.
      { path: writer.data, name: 'data', exclude: ['cache', 'cach?', '**/*.obj', 'cache/*', 'sub/cash', 'log.*'] },
      { path: writer.path('other'), name: 'other', exclude: ['log.*', 'sub/cash', Buffer.from([0xff])] },
    ];
    const expected = [
      {
        code: 'EXCLUDE_MATCHES_NOTHING',
        facts: {
          patterns: [
            { pattern: 'cache/*', trees: ['data'] },
            { pattern: 'sub/cash', trees: ['data', 'other'] },
            { pattern: { base64: '/w==' }, trees: ['other'] },
          ],
        },
        message:
          'patterns of `exclude` leave nothing out: cache/* (of data), sub/cash (of data, other), \\xff (of other)',
      },
    ];
    const options = { pid: writer.pid, files, precopy, output: writer.path('a.tar') };
    expect((await planCheckpoint({ pid: writer.pid, files, observeMs: 0 })).warnings).toMatchObject(expected);
    await expect(checkpoint({ ...options, strict: true, stop: true })).rejects.toMatchObject({
      code: 'WARNINGS_REFUSED',
      facts: { warnings: expected },
    });
    expect(existsSync(writer.path('a.tar'))).toBe(false);
    expect(await writer.isWell()).toMatchObject({ goesOn: true });
    expect((await checkpoint(options)).warnings).toMatchObject(expected);
  },
);

it('is --exclude of the command, beside --files', async () => {
  await using writer = await BusyWriter.start(version);
  makeFiles(writer.data);
  const target = ['--pid', String(writer.pid), '--output', writer.path('a.tar')];
  const exclude = EXCLUDE.flatMap((pattern) => ['--exclude', pattern]);
  const made = await stillframe('checkpoint', ...target, '--files', `data=${writer.data}`, ...exclude);
  expect(made.status, made.stderr).toBe(0);
  await writer.destroy();
  const restored = await stillframe('restore', writer.path('a.tar'));
  expect(restored.stderr).toMatch(/^not archived: +cache, \*\*\/\*\.obj \(excluded from data\)$/m);
  expect(there(writer.data)).toEqual(EXPECTED);
});
