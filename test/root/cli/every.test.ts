/** `checkpoint --every`, `list` and `restore --latest`, as they are typed. */
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { start } from '../../../src/index.js';
import { heard } from '../../fixtures/heard.js';
import { until } from '../../fixtures/processes.js';
import { program, stillframe } from '../../fixtures/program.js';
import { Programs } from '../../fixtures/programs.js';

const LONG_MS = 240_000;
const START_MS = 60_000;

/** A program that counts into a file: its name is web. */
async function counting(programs: Programs): Promise<void> {
  for (const name of ['data', 'archives']) mkdirSync(programs.path(name), { mode: 0o700 });
  await start({
    command: ['sh', '-c', 'i=0; while :; do i=$((i+1)); echo $i > n; sleep 0.05; done'],
    ...{ name: 'web', cwd: programs.path('data'), stateDir: programs.stateDir, logPath: programs.path('log') },
    files: [{ name: 'data', path: programs.path('data') }],
  });
  expect(await until(() => existsSync(programs.path('data/n')), START_MS)).toBe(true);
}

/** The command in a state in which it is heard and can be sent signals. */
function every(programs: Programs, ...args: string[]) {
  const output = ['--state-dir', programs.stateDir, '--output', programs.path('archives')];
  return heard(process.execPath, [program, 'checkpoint', ...output, ...args]);
}

it('ends with a last checkpoint on SIGTERM, and the newest whole one comes back', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  await counting(programs);
  const series = every(programs, '--name', 'web', '--every', '1h', '--stop', '--json');
  expect(await until(() => series.out.includes('\n'), START_MS), series.err).toBe(true);
  series.child.kill('SIGTERM');
  expect(await series.ended()).toBe(true);
  expect([series.child.exitCode, series.err]).toEqual([0, '']);
  const events = series.out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { archivePath: string });
  expect(events).toMatchObject([
    { kind: 'checkpoint', removed: [], report: { stopped: false } },
    { kind: 'checkpoint', removed: [], report: { stopped: true } },
  ]);
  await programs.kill('web');

  const archives = programs.path('archives');
  const cut = join(archives, 'web-20980101T000000.000Z.tar');
  copyFileSync(events[1]!.archivePath, cut);
  truncateSync(cut, 4096);
  writeFileSync(join(archives, 'web-\x1b[31m-20200101T000000.000Z.tar'), '');
  const listed = await stillframe('list', archives);
  expect(listed.stdout).toMatch(/^web-2098\S+ +2098\S+ +- +4.0 KiB +damaged +- +-$/m);
  expect(listed.stdout).toMatch(/^web-\d\S+ +\d\S+ +web \(process \d+\) +\S+ KiB +whole +\S+ m?s +0$/m);
  expect(listed.stdout).toContain('web-\\x1b[31m-2020');
  const restored = await programs.run('restore', '--latest', archives, '--replace', '--json');
  expect(restored.status, restored.stderr).toBe(0);
  expect(restored.stderr).toContain(`passed over ${cut}: `);
  expect(JSON.parse(restored.stdout)).toMatchObject({
    name: 'web',
    archivePath: events[1]!.archivePath,
    skipped: [{ path: cut, code: 'ARCHIVE_TRUNCATED' }],
  });
  expect(programs.get('web').state).toBe('running');
});

it('reports what fails and goes on, and says so by its status when the tree ends', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  await counting(programs);
  const { pid } = programs.get('web');
  // Nothing of the kind is done within a millisecond.
  const series = every(programs, '--name', 'web', '--every', '10ms', '--max-frozen', '1ms');
  const failures = (): number => series.err.match(/DEADLINE_EXCEEDED\]\n.*the next one is tried/g)?.length ?? 0;
  expect(await until(() => failures() >= 2, START_MS), series.err).toBe(true);
  await programs.kill('web');
  expect(await series.ended()).toBe(true);
  expect(series.err).toContain(`process ${pid} has ended; there is no checkpoint of it`);
  expect([series.child.exitCode, series.out, readdirSync(programs.path('archives'))]).toEqual([1, '', []]);
});

it('is cancelled by SIGINT, and refuses what makes no sense', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  await counting(programs);
  const series = every(programs, '--pid', String(programs.get('web').pid), '--every', '1h', '--keep', '1');
  expect(await until(() => series.out.includes('frozen for'), START_MS), series.err).toBe(true);
  series.child.kill('SIGINT');
  expect(await series.ended()).toBe(true);
  expect([series.child.exitCode, series.err]).toEqual([130, expect.stringContaining('older archives are kept')]);
  expect(readdirSync(programs.path('archives'))).toEqual([expect.stringMatching(/^sh-\d+-\d{8}T/)]);
  const archives = programs.path('archives');
  for (const [args, status, text] of [
    [['checkpoint', '--name', 'web', '--keep', '2', '--output', archives], 2, '--keep'],
    [['checkpoint', '--name', 'web', '--every', '1s', '--dry-run', '--output', archives], 2, '--dry-run'],
    [['checkpoint', '--name', 'web', '--every', '1s', '--output', '-'], 2, 'a directory'],
    [['checkpoint', '--name', 'web', '--every', 'soon', '--output', archives], 2, '2m or 1h'],
    [['checkpoint', '--name', 'web', '--every', '1s', '--output', '/no/such'], 1, 'ARCHIVE_DIR_UNUSABLE'],
    [['restore', '--latest', '/no/such'], 1, 'ARCHIVE_DIR_UNUSABLE'],
    [['restore', 'a.tar', '--latest', archives], 2, 'Give an archive, or --latest'],
    [['restore'], 2, "missing required argument 'archive'"],
  ] as const) {
    const ended = await programs.run(args[0], ...args.slice(1));
    expect([ended.status, ended.stderr]).toEqual([status, expect.stringContaining(text)]);
  }
  chmodSync(archives, 0o777);
  const unsafe = await programs.run('restore', '--latest', archives);
  expect([unsafe.status, unsafe.stderr]).toEqual([1, expect.stringContaining('ARCHIVE_UNSAFE')]);
});
