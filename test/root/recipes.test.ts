/**
 * The programs of docs/recipes.md, run as they stand there but for paths and pids. Those that need two kernels'
 * features or hosts are only compiled: test/docs.test.ts.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { beforeAll, expect, test } from 'vitest';
import { CriuClient, findCriu } from '../../src/index.js';
import { Counter, freePort, scratch, until } from '../fixtures/criu.js';
import { openPty, TerminalJob } from '../fixtures/terminal.js';
import { endsWithTest } from '../fixtures/ends-with-test.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const page = readFileSync(join(repository, 'docs/recipes.md'), 'utf8');
let criuPath: string;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
});

/** A running program of the page. */
class Recipe implements AsyncDisposable {
  readonly #child: ChildProcess;
  said = '';

  /**
   * @param heading Of the section.
   * @param put What stands in place of the page's paths, pids and addresses.
   * @param which Of its programs, from 0.
   */
  constructor(
    dir: string,
    heading: string,
    put: Record<string, string | number>,
    which = 0,
    stdin: 'ignore' | number = 'ignore',
  ) {
    const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? '';
    let code = [...section.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, text]) => text)[which];
    if (code === undefined) throw new Error(`no program ${which} below "${heading}"`);
    for (const [there, here] of Object.entries(put)) {
      if (!code.includes(there)) throw new Error(`the program below "${heading}" has no ${there}`);
      code = code.replaceAll(there, String(here));
    }
    const modules = join(dir, 'node_modules');
    if (!existsSync(modules)) {
      mkdirSync(modules);
      symlinkSync(repository, join(modules, 'stillframe'));
    }
    const file = join(dir, `${heading.replaceAll(/\W/g, '-')}-${which}.mjs`);
    // `await using` is newer than the oldest Node.js.
    writeFileSync(file, ts.transpile(code, { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }));
    this.#child = spawn(process.execPath, [file], { cwd: dir, stdio: [stdin, 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on('data', (data: Buffer) => (this.said += data.toString()));
    endsWithTest(this);
  }

  async ended(): Promise<{ status: number | null; said: string }> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'close');
    return { status: this.#child.exitCode, said: this.said };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended();
  }
}

/** proc(5), /proc/PID/stat: the process group of a process, zombies too. */
function groupOf(pid: string): number | undefined {
  try {
    return Number(
      readFileSync(`/proc/${Number(pid)}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ')[2],
    );
  } catch {
    return undefined; // it has ended, or is no process
  }
}

const isAlive = (pid: number): boolean => {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
};

const shellHeading = "A shell's job, and its terminal";

test("a shell's job, and its terminal", async () => {
  await using dir = await scratch();
  const images = join(dir.path, 'images');
  mkdirSync(images);
  await using job = await TerminalJob.start('while read -r word; do echo "got-$word"; done');
  await using client = await CriuClient.start({ criuPath });
  await client.dump({ pid: job.pid, imagesDir: images, shellJob: true, networkLock: 'skip' });
  await job.ended();

  await using pty = await openPty();
  await using recipe = new Recipe(dir.path, shellHeading, { '/var/lib/job/images': images }, 0, pty.slave);
  expect((await recipe.ended()).status, recipe.said).toBe(0);
  writeSync(pty.master, 'hello\n');
  await until(() => pty.said().includes('got-hello'), 'the restored job answers');
});

test.each([
  [1, 'is ours'],
  [2, 'is handed over'],
])("a shell's job, and its terminal: the master of a shell's (%s) %s", async (which) => {
  await using dir = await scratch();
  const images = join(dir.path, 'images');
  mkdirSync(images);
  const script = spawn('script', ['-qefc', 'exec env -i PS1= HISTFILE= /bin/sh -i', '/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    cwd: '/',
  });
  let shown = '';
  script.stdout.on('data', (data: Buffer) => (shown += data.toString()));
  script.stdin.write('echo ready-$((40+2))\n');
  await until(() => shown.includes('ready-42'), 'the shell answers');
  const shell = Number(readFileSync(`/proc/${script.pid}/task/${script.pid}/children`, 'utf8'));
  await using client = await CriuClient.start({ criuPath });
  await client.dump({ pid: shell, imagesDir: images, orphanPtsMaster: true, networkLock: 'skip' });
  if (script.exitCode === null) await once(script, 'exit');

  // What an OCI runtime's caller does: it waits for the master, and uses it.
  const socket = join(dir.path, 'console.sock');
  const python = `
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1])
listener.listen()
connection, _ = listener.accept()
data, fds, _, _ = socket.recv_fds(connection, 4096, 1)
print(data.decode(), os.isatty(fds[0]), flush=True)
os.write(fds[0], b"echo back again\\n")
try:
    while True: os.write(1, os.read(fds[0], 4096))
except OSError: pass # the shell has ended
`;
  const receiver =
    which === 2 ? spawn('python3', ['-c', python, socket], { stdio: ['ignore', 'pipe', 'inherit'] }) : undefined;
  let received = '';
  receiver?.stdout.on('data', (data: Buffer) => (received += data.toString()));
  if (receiver !== undefined) await until(() => existsSync(socket), 'the receiver listens');
  await using recipe = new Recipe(
    dir.path,
    shellHeading,
    { '/var/lib/shell/images': images, ...(which === 2 ? { '/run/c1/console.sock': socket } : {}) },
    which,
  );
  try {
    await until(() => /^back again\r?$/m.test(which === 2 ? received : recipe.said), 'the restored shell answers');
  } finally {
    process.kill(shell, 'SIGKILL');
  }
  expect((await recipe.ended()).status, recipe.said).toBe(0);
  if (receiver === undefined) return;
  expect(received).toMatch(/^\/dev\/ptmx True\n/);
  if (receiver.exitCode === null) await once(receiver, 'exit');
});

test('other descriptors than those of the dump', async () => {
  await using dir = await scratch();
  const images = join(dir.path, 'images');
  mkdirSync(images);
  const log = join(dir.path, 'c1.log');
  const program = join(dir.path, 'server');
  writeFileSync(
    program,
    '#!/bin/sh\ncd /\nexec 0>&- 2>&1\ni=0; while :; do i=$((i + 1)); echo line $i; sleep 0.02; done\n',
    { mode: 0o755 },
  );
  const heading = 'Other descriptors than those of the dump';
  await using start = new Recipe(dir.path, heading, { '/srv/app/server': program });
  await until(() => /^\d+$/m.test(start.said) && start.said.includes('line 3\n'), 'the program runs, and is heard');
  const pid = Number(/^\d+$/m.exec(start.said)?.[0]);
  try {
    await using dump = new Recipe(dir.path, heading, { 4711: pid, '/var/lib/c1/images': images }, 1);
    expect((await dump.ended()).status, dump.said).toBe(0);
    await until(
      () => !readdirSync('/proc').some((name) => groupOf(name) === pid),
      'every process of the tree has been reaped',
    );
    await using restore = new Recipe(
      dir.path,
      heading,
      { 'pipe:[31337]': dump.said.trim(), '/var/lib/c1/images': images, '/var/log/c1.log': log },
      2,
    );
    expect((await restore.ended()).status, restore.said).toBe(0);
    await until(() => /^line \d+\n/.test(readFileSync(log, 'utf8')), 'the restored tree writes into our log');
  } finally {
    if (isAlive(pid)) process.kill(-pid, 'SIGKILL');
    await until(() => !isAlive(pid), 'the tree has ended');
  }
});

test('memory to another machine', async () => {
  await using dir = await scratch();
  await using counter = await Counter.start(dir.path);
  const [memory, rest, port] = [join(dir.path, 'memory'), join(dir.path, 'rest'), await freePort()];
  for (const path of [memory, rest]) mkdirSync(path);
  await using there = new Recipe(dir.path, 'Memory to another machine', {
    '/var/lib/c1/images': memory,
    "address: '10.0.0.2', port: 0": `address: '127.0.0.1', port: ${port}`,
  });
  await until(() => there.said.includes(`${port}\n`), `the server listens: ${there.said}`);
  await using here = new Recipe(
    dir.path,
    'Memory to another machine',
    { 4711: counter.pid, '/var/lib/c1/rest': rest, '10.0.0.2': '127.0.0.1', 27000: port },
    1,
  );
  expect((await here.ended()).status, here.said).toBe(0);
  expect(await there.ended()).toEqual({ status: 0, said: `${port}\n{ exitCode: 0 }\n` });
  const pages = (path: string): boolean => readdirSync(path).some((name) => name.startsWith('pages-'));
  expect([pages(memory), pages(rest)]).toEqual([true, false]);
});

test('a CRIU that runs already', async () => {
  await using dir = await scratch();
  const socket = join(dir.path, 'socket');
  const service = spawn(criuPath, ['service', '--address', socket, '--work-dir', dir.path, '-o', 'service.log'], {
    stdio: 'ignore',
  });
  try {
    // proc(5), /proc/net/unix: the flag of a socket that listens, which the file in the directory says nothing of.
    await until(
      () =>
        readFileSync('/proc/net/unix', 'latin1')
          .split('\n')
          .some((line) => line.includes(' 00010000 ') && line.endsWith(socket)),
      'the service listens',
    );
    await using recipe = new Recipe(dir.path, 'A CRIU that runs already', { '/run/criu/socket': socket });
    expect((await recipe.ended()).said).toMatch(/^\d+\.\d+(\.\d+)?\n$/);
  } finally {
    service.kill('SIGKILL');
    if (service.exitCode === null && service.signalCode === null) await once(service, 'exit');
  }
});

test('what failed, and why', async () => {
  await using dir = await scratch();
  await using recipe = new Recipe(dir.path, 'What failed, and why', {
    4711: 4_000_000,
    '/var/lib/c1/images': dir.path,
  });
  const { status, said } = await recipe.ended();
  expect(status).toBe(0);
  expect(said).toContain('CRIU_REQUEST_FAILED');
  expect(said).toContain('There is no such process.');
});
