/** `run --restore-from`: a program that goes on from its last checkpoint, or begins. */
import { copyFileSync, existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { heard } from '../../fixtures/heard.js';
import { until } from '../../fixtures/processes.js';
import { program } from '../../fixtures/program.js';
import { Programs } from '../../fixtures/programs.js';

const LONG_MS = 240_000;
const START_MS = 60_000;

/** Counts into a file of its directory, which it keeps open; ends with 7 on SIGTERM. */
const COUNT = 'trap "exit 7" TERM; i=0; while :; do i=$((i+1)); echo $i > n; echo "step $i"; sleep 0.05; done';

function run(programs: Programs, ...args: string[]) {
  const name = ['--name', 'job', '--log', programs.path('log'), '--files', `data=${programs.path('data')}`];
  return heard(
    process.execPath,
    [program, 'run', '--state-dir', programs.stateDir, ...name, ...args, '--', 'sh', '-c', COUNT],
    { cwd: programs.path('data') },
  );
}

const steps = (out: string): number[] => [...out.matchAll(/^step (\d+)$/gm)].map(([, step]) => Number(step));

it('begins, goes on after a crash, and hands signals and status on', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  for (const name of ['data', 'archives']) mkdirSync(programs.path(name), { mode: 0o700 });
  const archives = programs.path('archives');
  const first = run(programs, '--restore-from', archives);
  expect(await until(() => steps(first.out).length > 3, START_MS), first.err).toBe(true);
  expect(first.err).toContain('job runs as process');
  const archive = join(archives, 'job-20200101T000000.000Z.tar');
  const made = await programs.run('checkpoint', '--name', 'job', '--output', archive);
  expect(made.status, made.stderr).toBe(0);
  // Of another program: not for this one.
  const other = join(archives, 'other-20980101T000000.000Z.tar');
  writeFileSync(other, 'damaged');
  const cut = join(archives, 'job-20980101T000000.000Z.tar');
  copyFileSync(archive, cut);
  truncateSync(cut, 10_000);
  const before = steps(first.out).at(-1)!;
  expect(await until(() => steps(first.out).at(-1)! > before + 3, START_MS)).toBe(true);

  // The name is its own while it lives.
  const taken = run(programs, '--restore-from', archives);
  expect(await taken.ended()).toBe(true);
  expect([taken.child.exitCode, taken.out, taken.err]).toEqual([125, '', expect.stringContaining('NAME_TAKEN')]);

  await programs.kill('job');
  expect(await first.ended()).toBe(true);
  expect(first.child.exitCode).toBe(137);
  writeFileSync(programs.path('data/left'), 'by the crash');

  const second = run(programs, '--restore-from', archives);
  expect(await until(() => steps(second.out).length > 3, START_MS), second.err).toBe(true);
  expect(second.err).toContain(`passed over ${cut}: `);
  expect(second.err).not.toContain(other);
  const kept = /the old files of \S+ are now (\S+)$/m.exec(second.err)?.[1];
  expect(readFileSync(join(kept!, 'left'), 'utf8')).toBe('by the crash');
  // It counts on from the checkpoint, and nothing of what it said before it is said again.
  const [begin] = steps(second.out);
  expect(begin).toBeGreaterThan(1);
  expect(begin).toBeLessThanOrEqual(before + 3);
  expect(existsSync(programs.path('data/left'))).toBe(false);
  const { cgroup } = programs.get('job');
  expect(programs.get('job')).toMatchObject({ state: 'running', command: ['sh', '-c', COUNT] });
  second.child.kill('SIGTERM');
  expect(await second.ended()).toBe(true);
  expect(second.child.exitCode, second.err).toBe(7);
  expect(programs.get('job')).toMatchObject({ state: 'ended', ended: { status: 7 }, cgroup: undefined });
  expect(existsSync(cgroup!)).toBe(false);
});

it(
  'starts anew where nothing can be restored, but not where the machine is at fault',
  { timeout: LONG_MS },
  async () => {
    await using programs = Programs.make();
    for (const name of ['data', 'archives']) mkdirSync(programs.path(name), { mode: 0o700 });
    const archives = programs.path('archives');
    const damaged = join(archives, 'job-20200101T000000.000Z.tar');
    writeFileSync(damaged, 'damaged');
    const first = run(programs, '--restore-from', archives, '--detach', '--json');
    expect(await first.ended()).toBe(true);
    expect(first.err).toContain(`passed over ${damaged}: `);
    const { pid } = programs.get('job');
    expect(JSON.parse(first.out)).toMatchObject({
      name: 'job',
      pid,
      skipped: [{ path: damaged, code: 'NOT_AN_ARCHIVE' }],
    });
    expect(await until(() => existsSync(programs.path('data/n')), START_MS)).toBe(true);
    const made = await programs.run('checkpoint', '--name', 'job', '--output', join(archives, 'job.tar'));
    expect(made.status, made.stderr).toBe(0);
    // In another state directory the name is free, and the process ids are not.
    const elsewhere = ['--restore-from', archives, '--pid-timeout', '10ms', '--state-dir', programs.path('elsewhere')];
    const refused = run(programs, ...elsewhere);
    expect(await refused.ended()).toBe(true);
    expect([refused.child.exitCode, refused.out]).toEqual([125, '']);
    expect(refused.err).toMatch(new RegExp(`in use after 10 ms: ${pid} by .*PIDS_TAKEN`, 's'));
    for (const [args, status, text] of [
      [['--discard-replaced'], 2, '--discard-replaced'],
      [['--restore-from', '/no/such'], 125, 'ARCHIVE_DIR_UNUSABLE'],
    ] as const) {
      const wrong = run(programs, ...args);
      expect(await wrong.ended()).toBe(true);
      expect([wrong.child.exitCode, wrong.err]).toEqual([status, expect.stringContaining(text)]);
    }
  },
);
