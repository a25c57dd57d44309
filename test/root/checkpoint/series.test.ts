/** Checkpoints again and again, and what becomes of the older ones. */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  checkpointEvery,
  listArchives,
  restore,
  start,
  withLatestArchive,
  type CheckpointEveryOptions,
  type CheckpointReport,
  type SeriesEvent,
} from '../../../src/index.js';
import { until } from '../../fixtures/processes.js';
import { Programs } from '../../fixtures/programs.js';

const LONG_MS = 120_000;

type Event = SeriesEvent<CheckpointReport>;

/** A program that counts into a file, and a directory for its archives. */
async function counting(programs: Programs): Promise<CheckpointEveryOptions & { pid: number }> {
  for (const name of ['data', 'archives']) mkdirSync(programs.path(name), { mode: 0o700 });
  const { target } = await start({
    command: ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i > n; sleep 0.05; done'],
    ...{ name: 'web', cwd: programs.path('data'), stateDir: programs.stateDir, logPath: programs.path('log') },
    files: [{ name: 'data', path: programs.path('data') }],
  });
  expect(await until(() => existsSync(programs.path('data/n')), LONG_MS / 2)).toBe(true);
  return { ...target, outputDir: programs.path('archives'), everyMs: 1, stateDir: programs.stateDir };
}

/** The next event, which must be of this kind. */
async function next<K extends Event['kind']>(events: AsyncGenerator<Event>, kind: K): Promise<Event & { kind: K }> {
  const { value } = await events.next();
  expect(value).toMatchObject({ kind });
  return value as Event & { kind: K };
}

const filesIn = (dir: string): string[] => readdirSync(dir).sort();

it('keeps the newest whole archives, and removes no other file', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const options = await counting(programs);
  const dir = options.outputDir;
  const damaged = 'web-20200101T000000.000Z.tar';
  const others = ['notes.txt', 'webber-20200101T000000.000Z.tar', 'web-20200101T000000.000Z.tar.old'];
  for (const name of [damaged, ...others]) writeFileSync(join(dir, name), 'no archive');
  const events = checkpointEvery({ ...options, keep: 2 });
  const first = await next(events, 'checkpoint');
  expect(first.archivePath).toMatch(/archives\/web-\d{8}T\d{6}\.\d{3}Z\.tar$/);
  // Of a clock that has been set back: what comes later has the later name.
  const future = join(dir, 'web-20990101T000000.000Z.tar');
  copyFileSync(first.archivePath, future);
  const second = await next(events, 'checkpoint');
  expect(second).toMatchObject({
    archivePath: join(dir, 'web-20990101T000000.001Z.tar'),
    removed: [first.archivePath],
  });
  expect((await next(events, 'checkpoint')).removed).toEqual([future]);
  await events.return();
  const kept = [second.archivePath, join(dir, 'web-20990101T000000.002Z.tar')];
  expect(filesIn(dir)).toEqual([damaged, ...others, ...kept.map((path) => path.slice(dir.length + 1))].sort());
  const { archives, otherFiles } = await listArchives(dir);
  expect(archives.map(({ path, state }) => [path, state])).toEqual([
    [kept[1], 'whole'],
    [kept[0], 'whole'],
    ...[damaged, 'webber-20200101T000000.000Z.tar']
      .sort()
      .reverse()
      .map((name) => [join(dir, name), 'damaged']),
  ]);
  expect(otherFiles).toBe(2);
});

it('goes on after a failure, and ends with the tree', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const options = await counting(programs);
  let isRefused = true;
  const refuse = (): void => {
    if (isRefused) throw new Error('not now');
  };
  const events = checkpointEvery({ ...options, onFrozen: refuse });
  expect(await next(events, 'failed')).toMatchObject({ error: { message: 'not now' }, isLast: false });
  expect(filesIn(options.outputDir)).toEqual([]);
  isRefused = false;
  const { archivePath } = await next(events, 'checkpoint');
  // Another directory in its place gets nothing.
  const moved = programs.path('moved');
  renameSync(options.outputDir, moved);
  mkdirSync(options.outputDir);
  expect(await next(events, 'failed')).toMatchObject({ error: { code: 'ARCHIVE_DIR_UNUSABLE' } });
  expect([filesIn(options.outputDir), filesIn(moved).length]).toEqual([[], 1]);
  await programs.kill('web');
  expect(await next(events, 'ended')).toEqual({ kind: 'ended', pid: options.pid, archivePath });
  expect(await events.next()).toEqual({ done: true, value: undefined });
  await expect(checkpointEvery(options).next()).rejects.toMatchObject({ code: 'NO_SUCH_PROCESS' });
});

it('makes a last one, and restores the newest that is whole', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const options = await counting(programs);
  const finish = new AbortController();
  const events = checkpointEvery({ ...options, everyMs: 2 ** 31 - 1, stop: true, finish: finish.signal });
  const first = await next(events, 'checkpoint');
  expect(first.report.stopped).toBe(false);
  setTimeout(() => finish.abort(), 100);
  const last = await next(events, 'checkpoint');
  expect(last.report.stopped).toBe(true);
  expect((await events.next()).done).toBe(true);
  await programs.kill('web');

  // A newer one is cut, another is somebody else's, a third is of another program.
  const cut = join(options.outputDir, 'web-20980101T000000.000Z.tar');
  copyFileSync(last.archivePath, cut);
  truncateSync(cut, last.report.archiveBytes - 512);
  const open = join(options.outputDir, 'web-20970101T000000.000Z.tar');
  copyFileSync(last.archivePath, open);
  chmodSync(open, 0o666);
  const find = (program: string) =>
    withLatestArchive(
      options.outputDir,
      (archive) => restore({ archive, replaceFiles: 'remove', stateDir: programs.stateDir }),
      { program },
    );
  const passed = [
    { path: cut, code: 'ARCHIVE_TRUNCATED' },
    { path: open, code: 'ARCHIVE_UNSAFE' },
  ];
  await expect(find('web2')).rejects.toMatchObject({ code: 'NO_ARCHIVE', facts: { program: 'web2', skipped: [] } });
  const found = await find('web');
  expect(found).toMatchObject({
    archive: { path: last.archivePath, of: { program: { name: 'web' } } },
    skipped: passed,
  });
  expect(programs.get('web')).toMatchObject({ state: 'running', pid: found.result.pid });
  chmodSync(options.outputDir, 0o777);
  await expect(find('web')).rejects.toMatchObject({ code: 'ARCHIVE_UNSAFE' });
});

it(
  'is cancelled by its signal, and leaves nothing of the checkpoint that was under way',
  { timeout: LONG_MS },
  async () => {
    await using programs = Programs.make();
    const options = await counting(programs);
    const cancel = new AbortController();
    const reason = new Error('enough');
    const events = checkpointEvery({ ...options, signal: cancel.signal, onFrozen: () => cancel.abort(reason) });
    await expect(events.next()).rejects.toBe(reason);
    expect(filesIn(options.outputDir)).toEqual([]);
    expect(programs.get('web').state).toBe('running');
    const later = new AbortController();
    const waiting = checkpointEvery({ ...options, everyMs: 100_000, signal: later.signal });
    await next(waiting, 'checkpoint');
    setTimeout(() => later.abort(reason), 50);
    await expect(waiting.next()).rejects.toBe(reason);
  },
);

it('sees at its end whether an archive is whole', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const options = await counting(programs);
  const events = checkpointEvery(options);
  const { archivePath, report } = await next(events, 'checkpoint');
  await events.return();
  const whole = (await listArchives(options.outputDir)).archives[0];
  expect(whole).toMatchObject({ state: 'whole', bytes: report.archiveBytes, windowMs: report.windowMs, warnings: 0 });
  const states = async (change: (path: string) => void): Promise<string[]> => {
    const copy = join(options.outputDir, 'copy.tar');
    copyFileSync(archivePath, copy);
    change(copy);
    const { archives } = await listArchives(options.outputDir);
    return archives.filter(({ path }) => path === copy).map(({ state }) => state);
  };
  for (const missing of [1, 512, 1024, 1536, 2048, 2560, 5120, report.archiveBytes - 512])
    expect(await states((path) => truncateSync(path, report.archiveBytes - missing)), String(missing)).toEqual([
      'damaged',
    ]);
  expect(await states((path) => truncateSync(path, report.archiveBytes + 100 * 1024))).toEqual(['whole']);
  expect(await states((path) => truncateSync(path, 0))).toEqual([]);
  const inManifest = report.archiveBytes - 2048 - 600;
  expect(
    await states((path) => {
      const bytes = readFileSync(path);
      bytes[inManifest]! ^= 1;
      writeFileSync(path, bytes);
    }),
  ).toEqual(['damaged']);
});

it.each([
  [{ everyMs: 0 }, 'everyMs'],
  [{ everyMs: 2 ** 31 }, 'everyMs'],
  [{ keep: 0 }, 'keep'],
  [{ outputDir: '' }, 'outputDir'],
  [{ output: '/tmp/a.tar' }, 'output'],
  [{ pid: -1 }, 'pid'],
])('refuses %j', async (wrong, option) => {
  const options = { pid: process.pid, everyMs: 1000, outputDir: '/tmp', ...wrong } as CheckpointEveryOptions;
  await expect(checkpointEvery(options).next()).rejects.toMatchObject({ code: 'BAD_OPTION', facts: { option } });
});
