/** What people meet with ordinary programs: it works by itself, or the error says who is in the way and what to do. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync, rmSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { checkpoint, CriuError, restore, type Diagnosis } from '../../../src/index.js';
import { waitForPids } from '../../../src/checkpoint/restore/wait-pids.js';
import { readProcess, threadsOf } from '../../../src/proc/task.js';
import { endChild, spawnCounter, until } from '../../fixtures/processes.js';
import { program, run, stillframe } from '../../fixtures/program.js';
import { OddTask } from '../../fixtures/odd-task.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function started(...args: Parameters<typeof OddTask.start>): Promise<OddTask> {
  const task = await OddTask.start(...args);
  onTestFinished(() => task[Symbol.asyncDispose]());
  return task;
}

/** The deleted file that the task has open, by its bytes. */
function deletedFile(pid: number): string | undefined {
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const link = `/proc/${pid}/fd/${fd}`;
    if (lstatSync(link).isSymbolicLink() && readlinkSync(link).endsWith(' (deleted)'))
      return createHash('sha256').update(readFileSync(link)).digest('hex');
  }
  return undefined;
}

describe('a deleted file of 4 MiB that is still open', () => {
  it('comes back with the tree', async () => {
    const task = await started(dir, 'deleted');
    const before = deletedFile(task.pid);
    expect(before).toBeDefined();
    await checkpoint({ pid: task.pid, adopt: true, output: join(dir, 'a.tar') });
    await task[Symbol.asyncDispose]();
    await restore({ archive: join(dir, 'a.tar') });
    expect(deletedFile(task.pid)).toBe(before);
  });

  it('is refused above the limit that was given, with the flag that raises it', async () => {
    const task = await started(dir, 'deleted');
    const asked = ['checkpoint', '--pid', String(task.pid), '--adopt', '--output', join(dir, 'a.tar')];
    const { status, stderr } = await stillframe(...asked, '--ghost-limit', '1M');
    expect(status).toBe(1);
    expect(stderr).toContain('raise --ghost-limit.');
    expect((await stillframe(...asked, '--criu', 'ghost-limit=1048576')).status).toBe(1);
    expect((await stillframe(...asked, '--ghost-limit', '5M')).status).toBe(0);
  });
});

describe('without CAP_SYS_RESOURCE', () => {
  const without = (...args: string[]): ReturnType<typeof run> =>
    run('setpriv', [
      '--bounding-set',
      '-sys_resource',
      '--inh-caps',
      '-sys_resource',
      process.execPath,
      program,
      ...args,
    ]);

  it('a tree of another user is refused for that reason, and not for a harmless one', async () => {
    const prefix = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--'];
    rmSync(dir, { recursive: true });
    dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
    await run('chmod', ['0777', dir]);
    const task = await started(dir, 'plain', { prefix });
    const asked = ['checkpoint', '--pid', String(task.pid), '--adopt', '--output', join(dir, 'a.tar')];
    const { stderr } = await without(...asked, '--json');
    const { error } = JSON.parse(stderr) as { error: { code: string; remedy: string; facts: Record<string, unknown> } };
    expect(error).toMatchObject({ code: 'CRIU_REQUEST_FAILED', facts: { problem: 'needs-sys-resource' } });
    expect(error.remedy).toContain('CAP_SYS_RESOURCE');
    expect(error.remedy).not.toContain('Error (');
    const { stderr: text } = await without(...asked);
    expect(text).not.toContain('RLIMIT_NOFILE');
    expect(text.split('\n')[0]).toContain("Can't get rlimit");
  });

  it('`doctor` says so', async () => {
    const { findings } = JSON.parse((await without('doctor', '--json')).stdout.toString()) as Diagnosis;
    expect(findings.find(({ subject }) => subject === 'privileges')).toMatchObject({
      verdict: 'note',
      what: expect.stringContaining('another user') as string,
    });
  });
});

it('a pid that a zombie holds is told with the parent that has not reaped it', async () => {
  const counter = await spawnCounter({ mode: 'zombie' });
  onTestFinished(() => counter[Symbol.asyncDispose]());
  const zombie = Number(counter.read()[1]);
  await expect(waitForPids([zombie], 100)).rejects.toMatchObject({
    code: 'PIDS_TAKEN',
    facts: { holders: [{ pid: zombie, state: 'Z', parent: { pid: counter.pid } }] },
    remedy: expect.stringContaining('reaped') as string,
  });
});

it('a pid that a thread holds is told as that thread of its process', async () => {
  const counter = await spawnCounter({ mode: 'threads', count: 3 });
  onTestFinished(() => counter[Symbol.asyncDispose]());
  const thread = threadsOf(counter.pid).find((tid) => tid !== counter.pid) as number;
  await expect(waitForPids([thread], 0)).rejects.toMatchObject({
    code: 'PIDS_TAKEN',
    facts: { holders: [{ pid: thread, holder: counter.pid, as: 'thread' }] },
    message: expect.stringContaining(`${thread} by thread ${thread} of process ${counter.pid} (`) as string,
  });
});

it('a pid whose process has ended but for its other threads is not laid at its parent', async () => {
  // The first thread ends, the second lives: the parent has nothing to reap yet.
  const source = [
    'import ctypes, threading, time',
    'threading.Thread(target=time.sleep, args=(60,)).start()',
    'ctypes.CDLL(None).syscall(60, 0)',
  ].join('\n');
  const child = spawn('python3', ['-c', source], { stdio: 'ignore' });
  onTestFinished(() => endChild(child));
  const pid = child.pid as number;
  expect(await until(() => readProcess(pid)?.state === 'Z', 20_000)).toBe(true);
  const error: unknown = await waitForPids([pid], 0).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'PIDS_TAKEN', facts: { holders: [{ pid, as: 'process', state: 'Z' }] } });
  expect((error as Error).message).not.toContain('reaped it');
});

it('a unix socket that leads out of the tree is named, with who has its other end', async () => {
  const task = await started(dir, 'plain', { stdout: 'unix' });
  const error: unknown = await checkpoint({ pid: task.pid, adopt: true, output: join(dir, 'a.tar') }).catch(
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CriuError);
  const { facts, message } = error as CriuError;
  const inode = Number(/\d+/.exec(readlinkSync(`/proc/${task.pid}/fd/1`))?.[0]);
  expect(facts.unixPeers).toMatchObject([{ pid: task.pid, inode, holders: [{ pid: process.pid }] }]);
  expect(message).toContain(`socket ${inode} of process ${task.pid}`);
});
