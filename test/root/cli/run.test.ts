/** `stillframe run` and `ps`, and names in place of process ids, as a newcomer types them. */
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { heard } from '../../fixtures/heard.js';
import { until } from '../../fixtures/processes.js';
import { program } from '../../fixtures/program.js';
import { Programs } from '../../fixtures/programs.js';

const LONG_MS = 240_000;
const START_MS = 60_000;

/** In the foreground, heard while it runs. */
function foreground(programs: Programs, ...args: string[]) {
  return heard(process.execPath, [program, 'run', '--state-dir', programs.stateDir, ...args]);
}

/** Counts into a file of `data`, and tells. */
function counter(programs: Programs): string {
  mkdirSync(programs.path('data'));
  const script = programs.path('count.sh');
  writeFileSync(
    script,
    `#!/bin/sh\ncd ${programs.path('data')}\ni=0\nwhile :; do i=$((i+1)); echo $i > n; echo "step $i"; sleep 0.05; done\n`,
  );
  chmodSync(script, 0o755);
  return script;
}

it('gives a program all that it needs, its output to us, and its status on', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const script = `echo out; echo err >&2; readlink /proc/$$/fd/0 /proc/$$/fd/1; ls /proc/$$/fd | tr '\\n' ' '
    ps -o sid=,pgid=,tty= $$; echo "$$ $odd"; exit 7`;
  const log = programs.path('log');
  const { status, stdout, stderr } = await programs.run('run', '--name', 'a', '--log', log, '--', 'sh', '-c', script);
  expect(status, stderr).toBe(7);
  const pid = /runs as process (\d+); its output is kept in (.*)\n$/.exec(stderr)?.[1];
  expect(stdout).toContain(`out\nerr\n/dev/null\n${log}\n0 1 2 `);
  expect(stdout).toMatch(new RegExp(`(^| )${pid} +${pid} +\\?$`, 'm'));
  expect(readFileSync(log, 'utf8')).toBe(stdout);
  expect(statSync(log).mode & 0o777).toBe(0o600);
  expect(programs.get('a')).toMatchObject({ state: 'ended', ended: { status: 7 }, cgroup: undefined });
  const killed = await programs.run('run', '--log', log, '--', 'sh', '-c', 'kill -KILL $$');
  expect(killed.status).toBe(137);
  expect(programs.get('sh')).toMatchObject({ ended: { status: 137 }, cgroup: undefined });
  const listed = await programs.run('ps');
  expect(listed.stdout).toMatch(/^a +\d+ +ended \(7\)/m);
});

it('passes signals on', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const script = "trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.02; done";
  const running = foreground(programs, '--log', programs.path('log'), '--', 'sh', '-c', script);
  expect(await until(() => running.out.includes('ready'), START_MS), running.err).toBe(true);
  running.child.kill('SIGUSR1');
  expect(await until(() => running.out.includes('usr1'), START_MS)).toBe(true);
  running.child.kill('SIGTERM');
  expect(await running.ended()).toBe(true);
  expect([running.child.exitCode, running.out]).toEqual([3, 'ready\nusr1\nterm\n']);
  const asleep = foreground(
    programs,
    '--log',
    programs.path('log'),
    '--',
    'sh',
    '-c',
    'echo here; sleep 1000; echo no',
  );
  expect(await until(() => asleep.out.includes('here'), START_MS), asleep.err).toBe(true);
  asleep.child.kill('SIGINT');
  expect(await asleep.ended()).toBe(true);
  expect(asleep.child.exitCode).toBe(130);
});

it('leaves the program running when it is killed', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const running = foreground(programs, '--name', 'a', '--log', programs.path('log'), '--', 'sleep', '1000');
  expect(await until(() => running.err.includes('runs as'), START_MS)).toBe(true);
  running.child.kill('SIGKILL');
  await until(() => running.child.signalCode !== null);
  expect(programs.get('a')).toMatchObject({ state: 'running', processes: 1 });
  const { cgroup } = programs.get('a');
  await programs.kill('a');
  expect(programs.get('a')).toMatchObject({ state: 'ended', cgroup });
  expect((await programs.run('recover')).status).toBe(0);
  expect(existsSync(cgroup!)).toBe(false);
});

it('says what it cannot run, and leaves nothing', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  writeFileSync(programs.path('script'), '#!/no/such/interpreter\n', { mode: 0o755 });
  const log = ['--log', programs.path('log')];
  for (const [args, status, text] of [
    [['--', 'no-such-program'], 127, 'COMMAND_NOT_FOUND'],
    [['--', programs.path('script')], 127, 'COMMAND_NOT_FOUND'],
    [['--', '/etc/passwd'], 126, 'COMMAND_NOT_EXECUTABLE'],
    [['--', '/etc'], 126, 'COMMAND_NOT_EXECUTABLE'],
    [['--name', 'a/b', '--', 'true'], 2, '`name`'],
    [['--name', '..', '--', 'true'], 2, 'letters, digits'],
    [['--name', 'a\x1bb', '--', 'true'], 2, 'a\\u001bb'],
    [['--name', 'x'.repeat(1000), '--', 'true'], 2, 'at most 128'],
    [[], 2, 'Give the program to run'],
    [['--cgroup', '/tmp/no-cgroup', '--', 'true'], 125, 'NOT_A_CGROUP'],
  ] as const) {
    const ended = await programs.run('run', ...log, ...args);
    expect(ended.stderr).toContain(text.replace('`name`', '--name'));
    expect(ended.status, ended.stderr).toBe(status);
  }
  const noLog = await programs.run('run', '--log', programs.path('no/such/log'), '--', 'true');
  expect([noLog.status, noLog.stderr]).toEqual([125, expect.stringContaining('LOG_UNUSABLE')]);
  expect(programs.records()).toEqual([]);
  chmodSync(programs.stateDir, 0o755);
  const open = await programs.run('run', ...log, '--', 'true');
  expect([open.status, open.stderr]).toEqual([125, expect.stringContaining('STATE_DIR_UNSAFE')]);
  chmodSync(programs.stateDir, 0o700);
});

it('tells what remains of a program that went into the background', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const args = ['--name', 'd', '--log', programs.path('log'), '--', 'sh', '-c', 'sleep 1000 & exit 4'];
  const { status, stderr } = await programs.run('run', ...args);
  expect(status).toBe(4);
  expect(stderr).toMatch(/d has ended, but not all of its processes: \d+ \(sleep\) live on in \//);
  expect(programs.get('d')).toMatchObject({ state: 'rootless', processes: 1 });
  const refused = await programs.run('checkpoint', '--name', 'd', '--output', programs.path('a.tar'));
  expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining('PROGRAM_ENDED')]);
});

it('takes a name through a checkpoint and a restore, and the log with it', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const [log, archive] = [programs.path('log'), programs.path('a.tar')];
  const script = counter(programs);
  const lines = () => readFileSync(log, 'utf8').split('\n').length;
  const files = ['--files', programs.path('data')];
  const started = await programs.run('run', '--detach', '--name', 'web', '--log', log, ...files, '--', script);
  expect(started.status, started.stderr).toBe(0);
  const { pid, cgroup } = programs.get('web');
  expect(started.stdout).toBe(`${pid}\n`);
  expect(await until(() => lines() > 3, START_MS)).toBe(true);

  const again = await programs.run('run', '--name', 'web', '--log', log, '--', 'true');
  expect([again.status, again.stderr]).toEqual([125, expect.stringContaining('NAME_TAKEN')]);
  const unknown = await programs.run('checkpoint', '--name', 'wbe', '--output', archive);
  expect(unknown.stderr).toContain('no program has the name wbe\nThere is: web. See: stillframe ps [NO_SUCH_NAME]');

  const plan = await programs.run('checkpoint', '--name', 'web', '--dry-run', '--json');
  expect(JSON.parse(plan.stdout)).toMatchObject({ warnings: [], trees: [{ name: 'data' }] });
  // On a busy machine a shell is long in the middle of a vfork.
  const output = ['--output', archive, '--retries', '20'];
  const taken = await programs.run('checkpoint', '--name', 'web', '--strict', ...output);
  expect(taken.status, taken.stderr).toBe(0);
  expect(programs.get('web')).toMatchObject({ lastCheckpoint: { archivePath: archive } });
  const frozen = await programs.run('freeze', '--while', '--name', 'web', '--', 'sh', '-c', 'echo $STILLFRAME_CGROUP');
  expect(frozen.stdout).toBe(`${cgroup}\n`);
  await programs.run('freeze', '--name', 'web');
  expect(programs.get('web').state).toBe('frozen');
  await programs.run('thaw', '--name', 'web');
  expect((await programs.run('status', '--name', 'web')).stdout).toContain('frozen:       no');

  await programs.kill('web');
  expect(programs.get('web').state).toBe('ended');
  const before = lines();
  const restored = await programs.run('restore', archive, '--replace', '--json', '--strict');
  expect(restored.status, restored.stderr).toBe(0);
  expect(JSON.parse(restored.stdout)).toMatchObject({ pid, name: 'web', cgroup });
  expect(await until(() => lines() > before + 3, START_MS)).toBe(true);
  expect(programs.get('web')).toMatchObject({ pid, state: 'running', files: [{ name: 'data' }], logPath: log });

  const second = await programs.run('restore', archive, '--replace');
  expect(second.stderr).toContain('NAME_TAKEN');
  await programs.kill('web');
  rmSync(log);
  // An archive must not make files where it likes.
  const refused = await programs.run('restore', archive, '--replace', '--name', 'other');
  expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining('LOG_UNUSABLE')]);
  expect(existsSync(log)).toBe(false);
  writeFileSync(log, '', { mode: 0o600 });
  const renamed = await programs.run('restore', archive, '--replace', '--name', 'other');
  expect(renamed.status, renamed.stderr).toBe(0);
  expect(await until(() => lines() > 3, START_MS)).toBe(true);
  expect(programs.list().map(({ name, state }) => `${name} ${state}`)).toEqual(['other running', 'web ended']);
});

it('makes a default log that is gone again, for a restore that succeeds', { timeout: LONG_MS }, async () => {
  await using programs = Programs.make();
  const name = basename(programs.dir);
  const log = `/var/log/stillframe/${name}.log`;
  onTestFinished(() => rmSync(log, { force: true }));
  const archive = programs.path('a.tar');
  const script = 'while :; do echo step; sleep 0.05; done';
  const started = await programs.run('run', '--detach', '--name', name, '--', 'sh', '-c', script);
  expect(started.status, started.stderr).toBe(0);
  expect(await until(() => readFileSync(log, 'utf8') !== '', START_MS)).toBe(true);
  const taken = await programs.run('checkpoint', '--name', name, '--output', archive, '--retries', '20');
  expect(taken.status, taken.stderr).toBe(0);
  await programs.kill(name);
  rmSync(log);
  const restored = await programs.run('restore', archive);
  expect(restored.status, restored.stderr).toBe(0);
  expect(await until(() => readFileSync(log, 'utf8') !== '', START_MS)).toBe(true);
  expect(statSync(log).mode & 0o777).toBe(0o600);
});
