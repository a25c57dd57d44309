import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cp, readdir } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { CriuClient, CriuError, findCriu, LazyPages, type CriuBinary } from '../../../src/criu/index.js';
import { native } from '../../../src/native.js';
import { Child } from '../../../src/process.js';
import { Counter, scratch, until } from '../../fixtures/criu.js';
import { tlsOptions } from '../../fixtures/tls.js';

const PIPE_BYTES = 4 << 20;
let criu: CriuBinary;
let criuPath: string;
const tag = `sft${process.pid % 100000}`;
/** Its own, should two runs meet on one machine. */
const net = `10.213.${process.pid % 256}`;
const sh = (command: string): void => {
  const { status, stderr } = spawnSync('sh', ['-ec', command], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
};
beforeAll(async () => {
  criu = await findCriu();
  criuPath = criu.path;
  await using client = await CriuClient.start({ criuPath });
  expect((await client.featureCheck({ lazyPages: true })).lazyPages, 'needs a kernel with userfaultfd').toBe(true);
  // Two machines: this one, and a network namespace.
  sh(
    `ip netns add ${tag}; ip link add ${tag}a type veth peer name ${tag}b; ip link set ${tag}b netns ${tag}; ip addr add ${net}.1/24 dev ${tag}a; ip link set ${tag}a up; ip netns exec ${tag} sh -ec 'ip addr add ${net}.2/24 dev ${tag}b; ip link set ${tag}b up; ip link set lo up'`,
  );
});
afterAll(() => {
  spawnSync('ip', ['link', 'del', `${tag}a`]);
  spawnSync('ip', ['netns', 'del', tag]);
});

/**
 * CRIU enlarges a pipe to up to 4 MiB, and goes on with none when it may not (criu/page-pipe.c, pipe_read_dest_init):
 * over the system's limit that takes CAP_SYS_RESOURCE, which not every machine gives its root. The limit can be raised
 * without.
 */
function roomForPipes(): Disposable {
  const limit = '/proc/sys/fs/pipe-max-size';
  const before = readFileSync(limit, 'utf8');
  if (Number(before) < PIPE_BYTES) writeFileSync(limit, String(PIPE_BYTES));
  return { [Symbol.dispose]: () => writeFileSync(limit, before) };
}

/** A CRIU in the namespace; it inherits its socket through the entrance. */
function elsewhere(dir: string): string {
  const wrapper = join(dir, 'criu-elsewhere');
  writeFileSync(wrapper, `#!/bin/sh\nexec ip netns exec ${tag} ${criuPath} "$@"\n`, { mode: 0o755 });
  return wrapper;
}

test('a tree restored lazily counts on from where it stood, and the daemon ends when it has brought all', async () => {
  await using dir = await scratch();
  await using images = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: images.path, networkLock: 'skip' });
  await counter.gone();
  const stood = counter.count();
  await using lazy = await LazyPages.start({ criuPath, imagesDir: images.path, workDir: work.path });
  await using restorer = await CriuClient.start({ criuPath });
  await restorer.restore({ imagesDir: images.path, workDir: work.path, lazyPages: true, logFile: 'restore.log' });
  expect(await counter.advances()).toBe(true);
  expect(counter.count()).toBeGreaterThan(stood);
  await lazy.finished();
  expect(await counter.advances()).toBe(true);
  expect(readFileSync(join(work.path, 'lazy-pages.log'), 'utf8')).not.toContain('Error (');
});

test.each([false, true])(
  'memory comes on demand over the network, from a page server that has the images (TLS: %s)',
  async (encrypted) => {
    using _room = roomForPipes();
    await using keys = await scratch();
    const tls = encrypted ? tlsOptions(keys.path) : {};
    await using dir = await scratch();
    await using source = await scratch();
    await using target = await scratch();
    await using work = await scratch();
    await using counter = await Counter.start(dir.path);
    await using dumper = await CriuClient.start({ criuPath });
    await dumper.dump({ pid: counter.pid, imagesDir: source.path, networkLock: 'skip' });
    await counter.gone();
    const stood = counter.count();
    const server = { address: `${net}.2`, port: encrypted ? 27184 : 27182 };
    await using remote = await CriuClient.start({ criuPath: elsewhere(dir.path) });
    const { pid } = await remote.pageServerChild({
      imagesDir: source.path,
      lazyPages: true,
      logFile: 'server.log',
      pageServer: obeysAddress() ? server : { port: server.port },
      ...tls,
    });
    // What is not lazy (stacks, shared memory) the restore reads from its own images.
    await cp(source.path, target.path, { recursive: true });
    const before = received();
    await using lazy = await LazyPages.start({
      criuPath,
      imagesDir: target.path,
      workDir: work.path,
      pageServer: server,
      ...tls,
    });
    await using restorer = await CriuClient.start({ criuPath });
    await restorer.restore({ imagesDir: target.path, workDir: work.path, lazyPages: true, logFile: 'restore.log' });
    expect(await counter.advances()).toBe(true);
    expect(counter.count()).toBeGreaterThan(stood);
    await lazy.finished();
    expect(await remote.waitPid(pid)).toEqual({ exitCode: 0 });
    expect(received() - before).toBeGreaterThan(32 * 1024);
    expect(await counter.advances()).toBe(true);
  },
);

/** An older one listens at every address, whatever it is told. */
function obeysAddress(): boolean {
  return criu.versionNumber >= 40300;
}

/** Bytes that came from the other machine. */
function received(): number {
  return Number(readFileSync(`/sys/class/net/${tag}a/statistics/rx_bytes`, 'utf8'));
}

test('a page server in another network namespace takes the memory of a dump', async () => {
  await using dir = await scratch();
  await using memory = await scratch();
  await using rest = await scratch();
  await using counter = await Counter.start(dir.path);
  await using server = await CriuClient.start({ criuPath: elsewhere(dir.path) });
  const { pid, port } = await server.pageServerChild({
    imagesDir: memory.path,
    pageServer: { address: `${net}.2`, port: 27183 },
  });
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({
    pid: counter.pid,
    imagesDir: rest.path,
    leaveRunning: true,
    pageServer: { address: `${net}.2`, port },
    networkLock: 'skip',
  });
  expect(await server.waitPid(pid)).toEqual({ exitCode: 0 });
  expect((await readdir(memory.path)).some((name) => name.startsWith('pages-'))).toBe(true);
  expect(await counter.advances()).toBe(true);
});

test.each([false, true])(
  "memory goes over Node's own sockets, which are handed in at both ends (TLS: %s)",
  async (encrypted) => {
    await using keys = await scratch();
    const tls = encrypted ? tlsOptions(keys.path) : {};
    await using dir = await scratch();
    await using memory = await scratch();
    await using rest = await scratch();
    await using counter = await Counter.start(dir.path);
    const listener = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const ours = connect((listener.address() as AddressInfo).port, '127.0.0.1').pause(); // or Node.js would read what the server answers
    const [[theirs]] = (await Promise.all([once(listener, 'connection'), once(ours, 'connect')])) as [
      [Socket],
      unknown,
    ];
    listener.close();
    const fd = (socket: Socket): number => (socket as unknown as { _handle: { fd: number } })._handle.fd;
    try {
      await using server = await CriuClient.start({ criuPath, fds: [fd(theirs)] });
      const { pid } = await server.pageServerChild({
        imagesDir: memory.path,
        logFile: 'server.log',
        pageServer: { fd: fd(theirs) },
        ...(criu.versionNumber < 40300 ? {} : tls),
      });
      await using dumper = await CriuClient.start({ criuPath, fds: [fd(ours)] });
      const dump = dumper.dump({
        pid: counter.pid,
        imagesDir: rest.path,
        leaveRunning: true,
        pageServer: { fd: fd(ours) },
        networkLock: 'skip',
        ...tls,
      });
      if (encrypted && criu.versionNumber < 40300) {
        await expect(dump).rejects.toMatchObject({
          code: 'CRIU_OPTION_UNSUPPORTED',
          facts: { option: 'pageServer.fd with tls', since: '4.3' },
        });
      } else {
        await dump;
        expect(await server.waitPid(pid)).toEqual({ exitCode: 0 });
        expect((await readdir(memory.path)).some((name) => name.startsWith('pages-'))).toBe(true);
        expect((await readdir(rest.path)).some((name) => name.startsWith('pages-'))).toBe(false);
      }
      expect(await counter.advances()).toBe(true);
    } finally {
      ours.destroy();
      theirs.destroy();
    }
  },
);

test('a page server of lazy pages listens at the address that it is given, or the address is refused', async () => {
  await using dir = await scratch();
  await using images = await scratch();
  await using counter = await Counter.start(dir.path);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: images.path, leaveRunning: true, networkLock: 'skip' });
  await using server = await CriuClient.start({ criuPath });
  const asked = server.pageServerChild({
    imagesDir: images.path,
    lazyPages: true,
    pageServer: { address: '127.0.0.1' },
  });
  if (!obeysAddress()) {
    await expect(asked).rejects.toMatchObject({
      code: 'CRIU_OPTION_UNSUPPORTED',
      facts: { option: 'pageServer.address', since: '4.3' },
    });
    return;
  }
  const { pid, port } = await asked;
  // proc(5), /proc/PID/net/tcp: addresses in hexadecimal, the first byte last.
  const listening = readFileSync(`/proc/${pid}/net/tcp`, 'latin1')
    .split('\n')
    .map((line) => line.trim().split(/ +/))
    .filter(([, , , state]) => state === '0A')
    .map(([, local]) => local);
  const hexPort = port.toString(16).toUpperCase().padStart(4, '0');
  expect(listening.filter((local) => local?.endsWith(`:${hexPort}`))).toEqual([`0100007F:${hexPort}`]);
});

test('a dump to a page server without its address is refused, and the tree runs on', async () => {
  await using dir = await scratch();
  await using counter = await Counter.start(dir.path);
  for (const pageServer of [{ port: 27185 }, { address: '127.0.0.1', port: 70000 }]) {
    await using images = await scratch();
    await using dumper = await CriuClient.start({ criuPath });
    await expect(
      dumper.dump({ pid: counter.pid, imagesDir: images.path, leaveRunning: true, pageServer }),
    ).rejects.toMatchObject({ code: 'BAD_OPTION', facts: { option: 'pageServer' } });
  }
  expect(await counter.advances()).toBe(true);
});

test('a daemon that does not listen in time is CRIU_TIMEOUT, and has been reaped', async () => {
  await using dir = await scratch();
  // CRIU opens the first, and waits for somebody who writes.
  sh(`mkfifo ${join(dir.path, 'inventory.img')} ${join(dir.path, 'pstree.img')}`);
  const error: unknown = await LazyPages.start({
    criuPath,
    imagesDir: dir.path,
    workDir: dir.path,
    timeoutMs: 500,
  }).catch((reason: unknown) => reason);
  expect(error).toMatchObject({
    code: 'CRIU_TIMEOUT',
    facts: { request: 'lazy-pages', timeoutMs: 500, exitSignal: 'SIGKILL' },
  });
  expect(daemonsOn(dir.path)).toEqual([]);
});

test('a daemon is given up in time, and its end seen, though a child of it holds the pipe', async () => {
  await using dir = await scratch();
  const options = { criuPath: join(dir.path, 'criu'), imagesDir: dir.path, workDir: dir.path, args: [dir.path] };
  const start = async (script: string, timeoutMs: number): Promise<unknown> => {
    writeFileSync(options.criuPath, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return await LazyPages.start({ ...options, timeoutMs }).catch((reason: unknown) => reason);
  };
  const begun = performance.now();
  expect(await start(`sh -c 'sleep 20; true' ${dir.path}`, 300)).toMatchObject({
    code: 'CRIU_TIMEOUT',
    facts: { exitSignal: 'SIGKILL' },
  });
  await until(() => daemonsOn(dir.path).length === 0, 'the child has been ended with it');
  expect(await start('sleep 20 & exit 3', 15_000)).toMatchObject({ code: 'CRIU_DIED', facts: { exitCode: 3 } });
  expect(performance.now() - begun).toBeLessThan(10_000);
});

test.each([Infinity, NaN, 3e9, -1])('a time-out of %s is refused, and nothing started', async (timeoutMs) => {
  await using dir = await scratch();
  await expect(LazyPages.start({ criuPath, imagesDir: dir.path, workDir: dir.path, timeoutMs })).rejects.toMatchObject({
    code: 'BAD_OPTION',
    facts: { option: 'timeoutMs' },
  });
  expect(existsSync(join(dir.path, 'lazy-pages.log'))).toBe(false);
});

test.each([
  { imagesDir: '/nonexistent' },
  { workDir: '/proc/self/stat' },
  { criuPath: '' },
  { tls: 'yes' },
  { tlsKey: 5 },
  { pageServer: { address: '', port: 5 } },
  { pageServer: { address: '::1', port: 70000 } },
])('%o is refused by name', async (options) => {
  await using dir = await scratch();
  const start = LazyPages.start({ criuPath, imagesDir: dir.path, workDir: dir.path, ...(options as object) });
  await expect(start).rejects.toMatchObject({ code: 'BAD_OPTION', facts: { option: Object.keys(options)[0] } });
});

test('however few descriptors are left, a start ends with a daemon or with an error and none', async () => {
  await using dir = await scratch();
  await using images = await scratch();
  await using counter = await Counter.start(dir.path);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: images.path, leaveRunning: true, networkLock: 'skip' });
  await dumper.close(); // its descriptors would become free meanwhile
  const codes = new Set<string>();
  for (let left = 0; !codes.has('started'); left++) {
    await using work = await scratch();
    const lazy = await withDescriptors(left, () =>
      LazyPages.start({ criuPath, imagesDir: images.path, workDir: work.path }),
    ).catch((error: unknown) => error);
    if (lazy instanceof LazyPages) await lazy.close();
    else expect(lazy).toBeInstanceOf(CriuError);
    codes.add(lazy instanceof LazyPages ? 'started' : (lazy as CriuError).code);
    await until(() => daemonsOn(work.path).length === 0, 'the daemon has been reaped');
  }
  expect([...codes]).toEqual(['CRIU_IO', 'started']);
});

test('a daemon that cannot be heard, because the last descriptor went meanwhile, is ended', async () => {
  await using dir = await scratch();
  sh(`mkfifo ${join(dir.path, 'inventory.img')} ${join(dir.path, 'pstree.img')}`);
  const { Poll } = native();
  const start = vi.spyOn(Child, 'start');
  const poll = vi.spyOn(native(), 'Poll').mockImplementation(function (this: unknown, ...args) {
    // The first is the child's own.
    if (poll.mock.calls.length > 1)
      throw Object.assign(new Error('EMFILE: too many open files, dup'), {
        code: 'EMFILE',
        errno: -24,
        syscall: 'dup',
      });
    return new Poll(...args);
  });
  try {
    const error: unknown = await LazyPages.start({ criuPath, imagesDir: dir.path, workDir: dir.path }).catch(
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({
      code: 'CRIU_IO',
      facts: { request: 'lazy-pages', exitSignal: 'SIGKILL' },
      cause: { code: 'EMFILE' },
    });
    expect((start.mock.results[0]?.value as Child).end).toEqual({ exitSignal: 'SIGKILL' });
  } finally {
    poll.mockRestore();
    start.mockRestore();
  }
  expect(daemonsOn(dir.path)).toEqual([]);
});

/** Runs it while this process can open just so many descriptors more. */
async function withDescriptors<T>(left: number, run: () => Promise<T>): Promise<T> {
  const limit = (soft: string): void => sh(`prlimit --pid ${process.pid} --nofile=${soft}:`);
  const before = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] ?? '';
  const taken: number[] = [];
  limit('256');
  try {
    fill(taken);
    for (const fd of taken.splice(0, left)) closeSync(fd);
    return await run();
  } finally {
    for (const fd of taken) closeSync(fd);
    limit(before);
  }
}

function fill(taken: number[]): void {
  for (;;) {
    try {
      taken.push(openSync('/dev/null', 'r'));
    } catch {
      return;
    }
  }
}

/** The pids of programs that work on this directory, zombies among them by their parent. */
function daemonsOn(dir: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      const cmdline = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
      return (
        cmdline.split('\0').includes(dir) ||
        (cmdline === '' &&
          new RegExp(`^\\d+ \\(.*\\) Z ${process.pid} `).test(readFileSync(`/proc/${pid}/stat`, 'latin1')))
      );
    } catch {
      return false;
    }
  });
}

test('a daemon that cannot start, or is gone, is CRIU_DIED', async () => {
  await using dir = await scratch();
  const error: unknown = await LazyPages.start({ criuPath, imagesDir: dir.path, workDir: dir.path }).catch(
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CriuError);
  expect(error).toMatchObject({ code: 'CRIU_DIED', facts: { request: 'lazy-pages' } });
  await expect(
    LazyPages.start({ criuPath: '/nonexistent/criu', imagesDir: dir.path, workDir: dir.path }),
  ).rejects.toMatchObject({ code: 'CRIU_NOT_FOUND' });
});
