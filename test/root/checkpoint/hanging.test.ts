/**
 * A file system in a target's tree that stops answering holds neither the frozen window nor whoever asked for the
 * checkpoint.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { filesBehind, openForWriting, sharedWritableMappings } from '../../../src/checkpoint/window/files-in-use.js';
import { findChangedFiles } from '../../../src/checkpoint/warnings/find-changed-files.js';
import { checkpoint, openFreezer, type RecordedWarning } from '../../../src/index.js';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { compiled } from '../../fixtures/compiled.js';
import { scratch, type Scratch } from '../../fixtures/criu.js';
import { readProc } from '../../../src/proc/task.js';
import { endChild, until } from '../../fixtures/processes.js';

const SOURCE = fileURLToPath(new URL('../../fixtures/hanging-fuse.c', import.meta.url));
const LOOK_UP = new URL('../../../dist/src/look-up.js', import.meta.url).href;
const CLI = fileURLToPath(new URL('../../../dist/src/cli/main.js', import.meta.url));
const HOLDER = fileURLToPath(new URL('../../fixtures/hold-file.c', import.meta.url));

/** Mounted, and answering; SIGUSR1 makes it stop. Its end frees whoever waits. */
async function mountFuse(on: string): Promise<ChildProcess> {
  mkdirSync(on);
  const server = spawn(compiled(SOURCE, ['-O2', '-w']), [on], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(async () => {
    await endChild(server);
    spawnSync('umount', ['--lazy', on]);
  });
  const [said] = (await Promise.race([once(server.stdout!, 'data'), once(server, 'exit')])) as [unknown];
  expect(String(said)).toBe('ready\n');
  // The first close tells the kernel that no close has to be told: none will wait for the server once it hangs.
  closeSync(openSync(join(on, 'file'), 'r'));
  return server;
}

async function fuseOfTest(): Promise<{ dir: Scratch; fuse: string; server: ChildProcess }> {
  const dir = await scratch();
  const fuse = join(dir.path, 'fuse');
  return { dir, fuse, server: await mountFuse(fuse) };
}

/** It answers nothing from now on. */
async function deafen(server: ChildProcess): Promise<void> {
  server.kill('SIGUSR1');
  await pause(50);
}

async function sleeper(): Promise<ChildProcess> {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore', detached: true });
  await once(child, 'spawn');
  onTestFinished(() => endChild(child));
  return child;
}

/** Has the file of the file system open for writing, and mapped. */
async function holder(file: string): Promise<ChildProcess> {
  const child = spawn(compiled(HOLDER), [file], { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  onTestFinished(() => endChild(child));
  expect(String((await once(child.stdout!, 'data'))[0])).toBe('ready\n');
  return child;
}

/** It waits in a call of its own: CRIU's code in a task has another stack. */
function isOnItsOwnStack(pid: number): boolean {
  const pointer = Number(readProc(`${pid}/syscall`)?.trim().split(' ').at(-2));
  const [, start, end] = /^(\w+)-(\w+) .*\[stack\]$/m.exec(readProc(`${pid}/maps`) ?? '') ?? [];
  return pointer >= parseInt(start ?? '', 16) && pointer < parseInt(end ?? '', 16);
}

// CRIU, which opens that file itself, is killed once it has waited a second for the answer.
it.each([
  { fs: 'in the tree', tree: 'fuse', start: sleeper, undoMs: 0 },
  { fs: 'of a file that the target has open and mapped', tree: 'tree', start: holder, undoMs: 2000 },
])('with a file system $fs the deadline closes the window, and nothing is left', async ({ tree, start, undoMs }) => {
  const { dir, fuse, server } = await fuseOfTest();
  mkdirSync(join(dir.path, 'tree'));
  const target = await start(join(fuse, 'file'));
  await withCgroup(freezerVersions()[0]!, async (cgroup) => {
    cgroup.add(target.pid!);
    let closedAfterMs = 0;
    let at = 0;
    const attempt = checkpoint({
      pid: target.pid!,
      files: [{ path: join(dir.path, tree), name: 'tree' }],
      output: join(dir.path, 'out.tar'),
      workDir: dir.path,
      maxFrozenMs: 500,
      retries: 0,
      onProgress: (event) => {
        if (event.phase !== 'freeze' || event.at !== 'start') return;
        at = performance.now();
        server.kill('SIGUSR1');
      },
      onWindow: () => (closedAfterMs = performance.now() - at),
    });
    await expect(attempt).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    expect(closedAfterMs).toBeGreaterThan(0);
    expect(closedAfterMs).toBeLessThan(2500 + undoMs);
    expect(performance.now() - at).toBeLessThan(5000 + undoMs);
    expect(readdirSync(dir.path)).toEqual(['fuse', 'tree']);
    expect(await until(() => isOnItsOwnStack(target.pid!))).toBe(true);
  });
});

it('a file in use is known by its numbers although its server does not answer', async () => {
  const { fuse, server } = await fuseOfTest();
  const { pid } = await holder(join(fuse, 'file'));
  const { dev, ino } = statSync(join(fuse, 'file'), { bigint: true });
  await deafen(server);
  const signal = AbortSignal.timeout(5000);
  for (const links of [sharedWritableMappings([pid!]), openForWriting([pid!])])
    expect(await filesBehind(links, signal)).toContainEqual(expect.objectContaining({ dev, ino }));
});

it('whoever looks up a path that a server does not answer for is let go by his signal, and the process can end', async () => {
  const { fuse, server } = await fuseOfTest();
  await deafen(server);
  // A name that has not been looked up yet: the kernel has to ask.
  const program = `
    const { lookUp } = await import(${JSON.stringify(LOOK_UP)});
    await lookUp([process.argv[1]], { follow: true, signal: AbortSignal.timeout(200) }).catch((e) => console.log(e.name));`;
  const asked = spawn(process.execPath, ['--input-type=module', '-e', program, join(fuse, 'other')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => endChild(asked));
  let said = '';
  asked.stdout.on('data', (piece: Buffer) => (said += String(piece)));
  await once(asked.stdout, 'close');
  expect(said).toBe('TimeoutError\n');
});

it('a restore waits two seconds for the files that it compares, and says which were not answered for', async () => {
  const { dir, fuse, server } = await fuseOfTest();
  await deafen(server);
  const stamp = { use: 'writing', bytes: 1, mtimeNs: '1', ctimeNs: '1' };
  const paths = [join(fuse, 'other'), join(dir.path, 'missing'), 'relative', '/a\0b', `/${'long/'.repeat(2000)}`];
  const files = (of: string[]) => of.map((path) => ({ path, ...stamp }));
  const recorded = (of: string[]): RecordedWarning[] => [
    { code: 'FILES_NOT_ARCHIVED', facts: { files: files(of) }, message: '', remedy: '' },
  ];
  const begin = performance.now();
  let turns = 0;
  const ticking = setInterval(() => turns++, 50);
  const found = await findChangedFiles(recorded(paths));
  clearInterval(ticking);
  expect(performance.now() - begin).toBeLessThan(4000);
  expect(turns).toBeGreaterThan(10);
  expect(new Set(found.map(({ state }) => state))).toEqual(new Set(['unanswered']));
  expect((await findChangedFiles(recorded(paths.slice(1)))).map(({ state }) => state)).toEqual(Array(4).fill('gone'));
  await expect(findChangedFiles(recorded(paths), AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
});

it('Ctrl-C ends the command although a file system in the tree does not answer, and nothing is left', async () => {
  const { dir, fuse, server } = await fuseOfTest();
  server.kill('SIGUSR1');
  const target = await sleeper();
  await withCgroup(freezerVersions()[0]!, async (cgroup) => {
    cgroup.add(target.pid!);
    const states = join(dir.path, 'states');
    const args = ['checkpoint', '--pid', String(target.pid), '--files', `${fuse}=tree`, '--state-dir', states];
    const command = spawn(process.execPath, [CLI, ...args, '--output', join(dir.path, 'out.tar')], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    onTestFinished(() => endChild(command));
    let said = '';
    command.stderr.on('data', (text: Buffer) => (said += String(text)));
    // It has locked the target: the tree is what it looks at next.
    expect(await until(() => existsSync(states) && readdirSync(states).length > 0, 30_000), said).toBe(true);
    await pause(1500);
    expect(command.exitCode, 'the tree holds it up').toBe(null);
    const at = performance.now();
    const ended = once(command, 'exit');
    command.kill('SIGINT');
    expect(await ended, said).toEqual([130, null]);
    expect(performance.now() - at).toBeLessThan(3000);
    expect(readdirSync(dir.path).sort()).toEqual(['fuse', 'states']);
    expect(openFreezer({ cgroup: cgroup.path }).state().frozen, 'the tree runs').toBe(false);
  });
});
