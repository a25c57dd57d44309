import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { native } from '../../src/native.js';
import { Child, type ProcessOptions } from '../../src/process.js';
import { scratch } from '../fixtures/criu.js';
import { openPty } from '../fixtures/terminal.js';

const openFds = (): string[] => readdirSync('/proc/self/fd').sort();

type Start = (options: ProcessOptions) => Promise<Child>;
const onTheLoop: Start = async (options) => Child.start(options);
const inAThread: Start = (options) => Child.startInThread(options);

/** What a program says on its descriptor 1, and how it ended. */
async function said(start: Start, options: Omit<ProcessOptions, 'fds'>): Promise<{ text: string; end: unknown }> {
  await using dir = await scratch();
  const path = join(dir.path, 'said');
  const fd = openSync(path, 'w');
  const child = start({ ...options, fds: [undefined, fd, fd] });
  closeSync(fd);
  const end = await (await child).ended;
  return { text: readFileSync(path, 'utf8'), end };
}

describe.each([
  ['on the event loop', onTheLoop],
  ['in a thread', inAThread],
])('%s', (_, start) => {
  test('starts a program in a session of its own, with the arguments, the environment and the directory it was given', async () => {
    const { text, end } = await said(start, {
      path: '/bin/sh',
      args: ['-c', 'echo "$1|$A|$(pwd)|$(cut -d" " -f 5,6 /proc/$$/stat)|$$"', 'name', 'an argument'],
      env: { A: 'ä', B: undefined, PATH: process.env.PATH },
      cwd: '/usr',
    });
    const [argument, a, cwd, ids, pid] = text.trim().split('|');
    expect([argument, a, cwd, end]).toEqual(['an argument', 'ä', '/usr', { exitCode: 0 }]);
    expect(ids).toBe(`${pid} ${pid}`);
  });

  test('starts it in our session where that is asked for, in a process group of its own', async () => {
    await using dir = await scratch();
    const fd = openSync(join(dir.path, 'said'), 'w');
    const child = await start({
      path: '/bin/sh',
      args: ['-c', 'cut -d" " -f 5,6 /proc/$$/stat'],
      fds: [undefined, fd],
      sharesSession: true,
    });
    closeSync(fd);
    expect(await child.ended).toEqual({ exitCode: 0 });
    const ours = readFileSync('/proc/self/stat', 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ')[3];
    expect(readFileSync(join(dir.path, 'said'), 'utf8')).toBe(`${child.pid} ${ours}\n`);
  });

  test('opens a terminal anew, which becomes that of the new session, unless another has it', async () => {
    await using dir = await scratch();
    await using pty = await openPty();
    const first = await start({ path: 'sleep', args: ['1000'], fds: [pty.slave], opensTerminal: true });
    const second = await start({ path: 'sleep', args: ['1000'], fds: [pty.slave], opensTerminal: true });
    try {
      // proc(5), /proc/PID/stat: the controlling terminal's device, and 0 for none.
      const terminal = ({ pid }: Child): number =>
        Number(
          readFileSync(`/proc/${pid}/stat`, 'latin1')
            .replace(/^.*\) /s, '')
            .split(' ')[4],
        );
      expect([terminal(first), terminal(second)]).toEqual([fstatSync(pty.slave).rdev, 0]);
      for (const { pid } of [first, second]) expect(fstatSync(pty.slave).rdev).toBe(statSync(`/proc/${pid}/fd/0`).rdev);
    } finally {
      for (const child of [first, second]) child.kill('SIGKILL');
      await Promise.all([first.ended, second.ended]);
    }
    const fd = openSync(dir.path, 'r');
    await expect(start({ path: 'sleep', args: ['1000'], fds: [fd], opensTerminal: true })).rejects.toMatchObject({
      code: 'EISDIR',
      syscall: 'spawn',
    });
    closeSync(fd);
  });

  test('looks for a bare name on the PATH that the program gets, and takes our environment when none is given', async () => {
    process.env.STILLFRAME_TEST_VARIABLE = 'here';
    expect(await said(start, { path: 'printenv', args: ['STILLFRAME_TEST_VARIABLE'] })).toEqual({
      text: 'here\n',
      end: { exitCode: 0 },
    });
    delete process.env.STILLFRAME_TEST_VARIABLE;
    await expect(start({ path: 'printenv', env: {} })).rejects.toMatchObject({
      code: 'ENOENT',
      syscall: 'spawn',
      path: 'printenv',
    });
  });

  test.each([{ path: '/bin/true\0/x' }, { args: ['/tmp\0/x'] }, { env: { A: 'b\0c' } }, { cwd: '/tmp\0/x' }])(
    'refuses %j, which the kernel would cut at its zero byte',
    async (options) => {
      await expect(start({ path: '/bin/true', ...options })).rejects.toBeInstanceOf(TypeError);
    },
  );

  test('gives the descriptors at their numbers, whatever numbers they have here', async () => {
    await using dir = await scratch();
    const names = ['a', 'b', 'c'];
    const fds = names.map((name) => openSync(join(dir.path, name), 'w'));
    // 4 and 5 may well be among our own numbers: each is a duplicate before any is put into its place.
    const wanted = [undefined, fds[0], undefined, fds[2], fds[1], fds[0]];
    const before = openFds();
    const child = await start({
      path: '/bin/sh',
      args: ['-c', 'ls -l /proc/$$/fd >&1; echo c >&3; echo b >&4'],
      fds: wanted,
    });
    expect(await child.ended).toEqual({ exitCode: 0 });
    expect(openFds()).toEqual(before);
    for (const fd of fds) closeSync(fd);
    // Higher ones may come from whoever started the tests.
    const links = readFileSync(join(dir.path, 'a'), 'utf8')
      .split('\n')
      .flatMap((line) => / (\d) -> (.*)$/.exec(line)?.slice(1, 3).join(' ') ?? []);
    expect(links).toEqual([
      '0 /dev/null',
      `1 ${join(dir.path, 'a')}`,
      '2 /dev/null',
      `3 ${join(dir.path, 'c')}`,
      `4 ${join(dir.path, 'b')}`,
      `5 ${join(dir.path, 'a')}`,
    ]);
    expect(names.map((name) => readFileSync(join(dir.path, name), 'utf8')).slice(1)).toEqual(['b\n', 'c\n']);
  });

  test('blocks and ignores no signal there, although Node.js ignores some here', async () => {
    // 32 and 33 are the C library's own.
    const standard = (1n << 31n) - 1n;
    const masks = (status: string): bigint[] =>
      [...status.matchAll(/^Sig(?:Blk|Ign):\t(\w+)/gm)].map(([, hex]) => BigInt(`0x${hex}`) & standard);
    const { text } = await said(start, { path: '/bin/cat', args: ['/proc/self/status'] });
    expect(masks(text)).toEqual([0n, 0n]);
    expect(masks(readFileSync('/proc/self/status', 'utf8'))[1]).not.toBe(0n);
  });

  test('tells how it ended, and leaves no descriptor and no zombie', async () => {
    const before = openFds();
    const failed = await start({ path: '/bin/sh', args: ['-c', 'exit 7'] });
    expect(await failed.ended).toEqual({ exitCode: 7 });
    expect(failed.end).toEqual({ exitCode: 7 });
    failed.kill('SIGKILL'); // too late, and no error
    const killed = await start({ path: 'sleep', args: ['1000'] });
    expect(killed.end).toBeUndefined();
    killed.kill('SIGKILL');
    expect(await killed.ended).toEqual({ exitSignal: 'SIGKILL' });
    for (const { pid } of [failed, killed]) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
    expect(openFds()).toEqual(before);
  });

  test.each([
    ['ENOENT', '/nonexistent/program', undefined],
    ['EACCES', '/etc/passwd', undefined],
    ['ENOENT', '/bin/true', '/nonexistent/directory'],
  ])('says %s, and leaves nothing behind, when %s cannot be run', async (code, path, cwd) => {
    const before = openFds();
    const fd = openSync('/dev/null', 'r');
    await expect(start({ path, fds: [fd], ...(cwd === undefined ? {} : { cwd }) })).rejects.toMatchObject({
      code,
      syscall: 'spawn',
      path,
    });
    closeSync(fd);
    expect(openFds()).toEqual(before);
  });

  test('refuses what is no descriptor, and arguments of the wrong kind', async () => {
    await expect(start({ path: '/bin/true', fds: [987_654] })).rejects.toMatchObject({ code: 'EBADF' });
    expect(() => native().spawn('/bin/true', [7 as unknown as string], [], [], undefined)).toThrow(TypeError);
  });

  test("a hundred at once, beside Node's own children: each end goes to the one who waits for it", async () => {
    const before = openFds();
    const ours = await Promise.all(
      Array.from({ length: 100 }, (_, i) => start({ path: '/bin/sh', args: ['-c', `exit ${i}`] })),
    );
    const { spawn } = await import('node:child_process');
    const theirs = Array.from({ length: 20 }, (_, i) =>
      once(spawn('/bin/sh', ['-c', `exit ${i}`], { stdio: 'ignore' }), 'exit'),
    );
    expect(await Promise.all(ours.map((child) => child.ended))).toEqual(ours.map((_, i) => ({ exitCode: i })));
    expect((await Promise.all(theirs)).map(([code]: unknown[]) => code)).toEqual(theirs.map((_, i) => i));
    expect(openFds()).toEqual(before);
  });
});

test('works in a worker thread, and one that ends in the middle leaves this process whole', async () => {
  const addon = join(import.meta.dirname, '../../build/Release/stillframe.node');
  const body = `
    const native = require(${JSON.stringify(addon)});
    const { parentPort } = require('node:worker_threads');
    native.spawnInThread('/bin/true', ['true'], [], [], undefined).then(([pid, pidfd]) => {
      new native.Poll(pidfd, 'readable', function () { this.close(); parentPort.postMessage(native.reap(pidfd)); });
      native.spawnInThread('/bin/sleep', ['sleep', '0.01'], [], [], undefined);
    });`;
  const before = openFds();
  for (let i = 0; i < 10; i++) {
    const worker = new Worker(body, { eval: true });
    expect((await once(worker, 'message'))[0]).toBe(0);
    await worker.terminate();
  }
  // Each child is waited for by its pidfd until it ends.
  await expect.poll(openFds).toEqual(before);
});

test('a program that has nothing else to do ends while a child runs on that it does not wait for', async () => {
  await using dir = await scratch();
  const script = join(dir.path, 'script.mjs');
  writeFileSync(
    script,
    `
    import { Child } from ${JSON.stringify(join(import.meta.dirname, '../../dist/src/process.js'))};
    const child = Child.start({ path: 'sleep', args: ['1000'] });
    child.keepLoop(process.argv[2] === 'stay');
    console.log(child.pid);
    setTimeout(() => child.kill('SIGKILL'), 200).unref();`,
  );
  const stays = spawnSync(process.execPath, [script, 'stay'], { encoding: 'utf8' });
  expect(stays.status).toBe(0);
  expect(() => process.kill(Number(stays.stdout), 0)).toThrow('ESRCH');
  const goes = spawnSync(process.execPath, [script, 'go'], { encoding: 'utf8' });
  expect(goes.status).toBe(0);
  process.kill(Number(goes.stdout), 'SIGKILL');
});
