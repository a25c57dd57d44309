/** The command as people type it: its words, its JSON and its exit statuses, run as a program of its own. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { CriuClient, findCriu, type Diagnosis } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { program, run, stillframe } from '../../fixtures/program.js';

const version = freezerVersions().at(-1)!;

describe('the command, on a busy tree', () => {
  let writer: BusyWriter;
  beforeEach(async () => {
    writer = await BusyWriter.start(version);
  });
  afterEach(() => writer[Symbol.asyncDispose]());

  it('checkpoints, verifies, inspects and restores', async () => {
    const archive = writer.path('a.tar');
    const taken = await stillframe(
      'checkpoint',
      '--pid',
      String(writer.pid),
      '--files',
      `${writer.data}=data`,
      '--output',
      archive,
    );
    expect(taken.stderr).toBe('');
    expect(taken.status).toBe(0);
    expect(taken.stdout).toMatch(/^frozen window: +\d+\.\d ms$/m);
    expect(taken.stdout).toContain('is running (verified)');

    expect(await stillframe('verify', archive)).toMatchObject({ status: 0, stderr: '' });
    const inspected = await stillframe('inspect', archive, '--json');
    expect(JSON.parse(inspected.stdout)).toMatchObject({
      manifest: { subject: { pid: writer.pid }, trees: [{ name: 'data', source: writer.data }] },
    });
    expect((await stillframe('inspect', archive, '--members')).stdout).toContain('checkpoint/inventory.img');

    await writer.destroy();
    const restored = await stillframe('restore', archive);
    expect(restored.status, restored.stderr).toBe(0);
    expect(restored.stdout).toBe(`${writer.pid}\n`);
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });

  it('lets a restored tree run before its memory is there, on request', async () => {
    await stillframe(
      'checkpoint',
      '--pid',
      String(writer.pid),
      '--files',
      `${writer.data}=data`,
      '--output',
      writer.path('a.tar'),
    );
    await writer.destroy();
    const { status, stderr, stdout } = await stillframe('restore', writer.path('a.tar'), '--lazy-pages', '--json');
    expect(status, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      pid: writer.pid,
      phasesMs: { 'lazy-pages': expect.any(Number) as number },
    });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });

  it('says before anything is touched that this kernel cannot write memory ahead', async ({ skip }) => {
    await using client = await CriuClient.start({ criuPath: (await findCriu()).path });
    if ((await client.featureCheck({ memTrack: true })).memTrack === true)
      skip('needs a kernel without soft-dirty tracking');
    const { status, stderr } = await stillframe(
      'checkpoint',
      '--pid',
      String(writer.pid),
      '--pre-dump-until',
      '16M',
      '--output',
      writer.path('a.tar'),
    );
    expect(status).toBe(1);
    expect(stderr).toContain('CONFIG_MEM_SOFT_DIRTY');
    expect(stderr).toContain('[CRIU_FEATURE_MISSING]');
    expect(writer.leftovers()).toEqual([]);
  });

  it('writes the archive to stdout, and its words to stderr then', async () => {
    const { stdout, stderr, status } = await run(process.execPath, [
      program,
      'checkpoint',
      '--pid',
      String(writer.pid),
      '--files',
      `${writer.data}=data`,
      '--output',
      '-',
      '--compress',
      'gzip',
    ]);
    expect(status).toBe(0);
    expect(stderr).toContain('frozen window');
    writeFileSync(writer.path('a.tgz'), stdout);
    expect(await stillframe('verify', writer.path('a.tgz'))).toMatchObject({ status: 0, stderr: '' });
  });

  it('ends with 1 when nobody reads its stdout, and the tree runs on', async () => {
    const piped = `${process.execPath} ${program} checkpoint --pid ${writer.pid} --files ${writer.data}=data --output - | head -c 100 >/dev/null; echo "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = await run('bash', ['-c', piped]);
    expect(stdout.toString().trim()).toBe('1');
    expect(stderr).toContain('cannot write the archive: stdout: its reader closed it before the end');
    expect(await writer.isWell()).toMatchObject({ goesOn: true, mismatches: 0 });
    expect(writer.leftovers()).toEqual([]);
  });

  it('prints an error as JSON where JSON was asked for, and logs every phase as a line', async () => {
    const { stderr, status } = await stillframe(
      'checkpoint',
      '--pid',
      String(writer.pid),
      '--output',
      writer.path('a.tar'),
      '--max-frozen',
      '1',
      '--events',
      writer.path('events'),
      '--json',
    );
    expect(status).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'DEADLINE_EXCEEDED', facts: { maxFrozenMs: 1 } } });
    const events = readFileSync(writer.path('events'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { event: string; phase: string; at: string });
    expect(events[0]).toMatchObject({ phase: 'resolve', at: 'start' });
    expect(events).toContainEqual(expect.objectContaining({ event: 'phase', phase: 'dump', at: 'failed' }));
    expect(events.at(-1)).toMatchObject({ event: 'window', outcome: 'failed', error: { code: 'DEADLINE_EXCEEDED' } });
    expect(existsSync(writer.path('a.tar'))).toBe(false);
    rmSync(writer.path('events'));
    expect(writer.leftovers()).toEqual([]);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('says when %s has cancelled it, and that nothing is left', async (signal, status) => {
    const args = [
      'checkpoint',
      '--pid',
      String(writer.pid),
      '--output',
      writer.path('a.tar'),
      '--events',
      writer.path('e'),
    ];
    const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (text: Buffer) => (stderr += text.toString()));
    await expect.poll(() => existsSync(writer.path('e')), { timeout: 20_000, interval: 2 }).toBe(true);
    child.kill(signal);
    await once(child, 'close');
    expect({ status: child.exitCode, stderr }).toEqual({
      status,
      stderr: `stillframe: cancelled by ${signal}: the tree runs on, no archive was written\n`,
    });
    expect(existsSync(writer.path('a.tar'))).toBe(false);
    rmSync(writer.path('e'));
    expect(writer.leftovers()).toEqual([]);
  });

  it('freezes, tells the state and thaws', async () => {
    const cgroup = writer.cgroup.path;
    expect(await stillframe('freeze', cgroup)).toMatchObject({ status: 0 });
    const before = await writer.status();
    expect(JSON.parse((await stillframe('status', '--pid', String(writer.pid), '--json')).stdout)).toMatchObject({
      cgroup,
      frozen: true,
      selfFrozen: true,
    });
    expect((await stillframe('status', '--all')).stdout).toContain(cgroup);
    expect((await writer.status()).steps).toEqual(before.steps);
    expect((await stillframe('thaw', '--pid', String(writer.pid))).stdout).toMatch(/frozen: +no/);
    expect(await writer.isWell()).toMatchObject({ goesOn: true });
  });
});

describe('the command', () => {
  it('says what this machine has', async () => {
    const { stdout, status } = await stillframe('doctor', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ usable: true });
  });

  it('says of a CRIU that is too old for this kernel, or for one without UDP-Lite, what it refuses', async () => {
    const tooOld = ({ criu, findings }: Diagnosis, what: string): [number, number] => [
      criu.filter(({ usable, versionNumber = 0 }) => usable && versionNumber < 40200).length,
      findings.filter((finding) => finding.verdict === 'note' && finding.what.includes(what)).length,
    ];
    const withoutUdpLite = 'mount -t tmpfs none /proc/$$/net && exec "$@"';
    const { stdout } = await run('unshare', [
      '--mount',
      'sh',
      '-c',
      withoutUdpLite,
      'sh',
      process.execPath,
      program,
      'doctor',
      '--json',
    ]);
    const [old, told] = tooOld(JSON.parse(stdout.toString()) as Diagnosis, 'UDP-Lite');
    expect(told).toBe(old);
    const [major = 0, minor = 0] = release().split('.').map(Number);
    const [, here] = tooOld(
      JSON.parse((await stillframe('doctor', '--json')).stdout) as Diagnosis,
      'unix sockets only',
    );
    expect(here).toBe(existsSync('/proc/net/udplite') && (major > 6 || minor >= 16) ? old : 0);
  });

  it.each([
    [['checkpoint', '--pid', '1'], '--output'],
    [['checkpoint', '--pid', '1', '--outptu', 'a'], '--outptu'],
    [['pod', '--runc', 'a', '--outptu', 'a'], '--outptu'],
    [['checkpoint', '--pid', 'x', '--output', 'a'], 'whole number'],
    [['freeze'], 'give one of a cgroup, --pid and --name'],
    [['pod', '--output', 'x'], '--parent-cgroup'],
    [['checkpoint', '--pid', '1', '--output', '/tmp/a', '--criu', 'nonsense'], 'no such option'],
    [['checkpoint', '--pid', '1', '--output', '/tmp/a', '--criu', 'leaveRunning=false'], 'sets this itself'],
    [['checkpoint', '--pid', '1', '--output', 'a', '--max-frozen', 'soon'], '500ms'],
    [['restore', '/tmp/a', '--runc', 'x'], '--bundle'],
    [['nonsense'], 'unknown command'],
    [['checkpoint', '--pid', '1', '--output', 'a', '--files', '/x='], 'NAME=DIR'],
    [['checkpoint', '--pid', '1', '--output', 'a', '--exclude', 'x'], '--exclude needs --files'],
    [['checkpoint', '--pid', '1', '--output', '/tmp/a', '--files', '/tmp=../up'], '--files is "../up"'],
    [['checkpoint', '--pid', '1', '--output', 'a', '--pre-dump', '0'], 'positive whole number'],
    [['checkpoint', '--pid', '1', '--output', 'a', '--pre-dump-until', '16MB'], 'such as 65536, 64K, 16M or 1G'],
  ])('ends with 2 on wrong usage: %j', async (args, words) => {
    const { status, stderr } = await stillframe(...args);
    expect(stderr).toContain(words);
    expect(status).toBe(2);
  });

  it('does not fall over a reader of stdout that goes', async () => {
    const { stderr, stdout } = await run('bash', ['-c', `${process.execPath} ${program} doctor --json | head -c 1`]);
    expect({ stderr, stdout: stdout.toString() }).toEqual({ stderr: '', stdout: '{' });
  });

  it('lists what is frozen when `status` is given nothing', async () => {
    expect((await stillframe('status')).stdout).toBe((await stillframe('status', '--all')).stdout);
  });

  it('has examples in the help of every command', async () => {
    for (const name of [
      'checkpoint',
      'restore',
      'freeze',
      'thaw',
      'status',
      'inspect',
      'verify',
      'recover',
      'doctor',
    ]) {
      const { stdout, status } = await stillframe(name, '--help');
      expect(status).toBe(0);
      expect(stdout, name).toMatch(/Examples?:/);
    }
  });
});

it('refuses an argument that is not UTF-8, and names its flag', async () => {
  // A shell hands on any bytes; Node.js would not.
  const script = `exec "$0" "$1" checkpoint --pid 1 --files "$(printf 'data=/srv/\\377')" --output x.tar`;
  const refused = await run('sh', ['-c', script, process.execPath, program]);
  expect(refused).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('the value of --files is not UTF-8') as string,
  });
  const attached = await run('sh', ['-c', `exec "$0" "$1" inspect "$(printf '\\377')"`, process.execPath, program]);
  expect(attached).toMatchObject({ status: 2, stderr: expect.stringContaining('argument 2 is not UTF-8') as string });
  // The character itself may stand in a name.
  expect((await stillframe('inspect', '/no/\uFFFD')).stderr).toContain('ENOENT');
});

it('recover fails when the journal of a dead process cannot be understood', async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => rmSync(stateDir, { recursive: true, force: true }));
  expect(await stillframe('recover', '--state-dir', stateDir)).toMatchObject({ status: 0 });
  const ended = spawn('true', { stdio: 'ignore' });
  await once(ended, 'exit');
  writeFileSync(join(stateDir, `00000000-0000-4000-8000-000000000000@${String(ended.pid)}-1.json`), 'nonsense', {
    mode: 0o600,
  });
  const { status, stderr } = await stillframe('recover', '--state-dir', stateDir);
  expect({ status, stderr }).toMatchObject({ status: 1, stderr: expect.stringContaining('not recovered') as string });
});
