/** What a dump and a restore share with processes outside the tree: descriptors, sockets, namespaces, the parent. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  read,
  readlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { openPipe } from '../../../src/descriptors.js';
import { native } from '../../../src/native.js';
import {
  CriuClient,
  findCriu,
  LazyPages,
  type CriuError,
  type RestoreResult,
  type WorkOptions,
} from '../../../src/criu/index.js';
import { PacketSocket } from '../../../src/criu/process/packet-socket.js';
import { Counter, failure, freePort, scratch, until } from '../../fixtures/criu.js';
import { OddTask } from '../../fixtures/odd-task.js';

let criuPath: string;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
});
const quiet = { networkLock: 'skip' } as const;
const opened: number[] = [];
afterEach(() => opened.splice(0).forEach((fd) => closeSync(fd)));

function pipe(): [read: number, write: number] {
  const { read, write } = openPipe();
  opened.push(read, write);
  return [read, write];
}

/** What comes out of a pipe, once something does. */
async function heard(fd: number): Promise<string> {
  const buffer = Buffer.alloc(100);
  const { bytesRead } = await promisify(read)(fd, buffer, 0, 100, null);
  return buffer.toString('utf8', 0, bytesRead);
}

test('a restored process reads from a pipe and writes into a pipe or file that are ours, in place of those of the dump', async () => {
  for (const output of ['pipe', 'file'] as const) {
    await using dir = await scratch();
    await using work = await scratch();
    const old = join(dir.path, 'old');
    const [stdin, feed] = pipe();
    const [told, stdout] = output === 'pipe' ? pipe() : [openSync(old, 'a+'), openSync(old, 'a')];
    const cat = spawn('cat', { stdio: [stdin, stdout, 'ignore'], detached: true });
    await once(cat, 'spawn');
    const pid = cat.pid ?? 0;
    try {
      writeSync(feed, 'before');
      if (output === 'pipe') expect(await heard(told)).toBe('before');
      else await until(() => readFileSync(old, 'utf8') === 'before', 'the file is written');
      await using dumper = await CriuClient.start({ criuPath });
      await dumper.dump({ pid, imagesDir: work.path, ...quiet });
      await dumper.close();

      const [newStdin, newFeed] = pipe();
      const changed = join(dir.path, 'new');
      writeFileSync(changed, 'before');
      const [newTold, newStdout] = output === 'pipe' ? pipe() : [openSync(changed, 'r'), openSync(changed, 'a')];
      await using restorer = await CriuClient.start({ criuPath, fds: [newStdin, newStdout] });
      const inheritFd = [
        { key: `pipe:[${fstatSync(stdin).ino}]`, fd: newStdin },
        { key: output === 'pipe' ? `pipe:[${fstatSync(stdout).ino}]` : old.slice(1), fd: newStdout },
      ];
      expect(await restorer.restore({ imagesDir: work.path, logFile: 'restore.log', logLevel: 4, inheritFd })).toEqual({
        pid,
      });
      writeSync(newFeed, ' and after');
      if (output === 'pipe') expect(await heard(newTold)).toBe(' and after');
      else await until(() => readFileSync(changed, 'utf8') === 'before and after', 'our file is written');
      if (output === 'file') expect(readFileSync(old, 'utf8')).toBe('before');
    } finally {
      process.kill(pid, 'SIGKILL');
    }
  }
});

test('a socket whose peer is outside is dumped when the answer to query-ext-files names it, and only then', async () => {
  await using dir = await scratch();
  await using task = await OddTask.start(dir.path, 'plain', { stdout: 'unix' });
  const inode = /\d+/.exec(readlinkSync(`/proc/${task.pid}/fd/1`))?.[0] ?? '';
  const dump = async (external: string[]): Promise<void> => {
    await using work = await scratch();
    await using client = await CriuClient.start({ criuPath });
    await client.dump(
      { pid: task.pid, imagesDir: work.path, leaveRunning: true, ...quiet },
      { onNotify: ({ script }) => (script === 'query-ext-files' ? { external } : undefined) },
    );
  };
  await dump([`unix[${inode}]`]);
  expect((await failure(dump(['unix[1]']))).facts.problem).toBe('unix-external');
});

test('a page server that is ready says so through the descriptor it was given', async () => {
  await using dir = await scratch();
  const [read, write] = pipe();
  await using server = await CriuClient.start({ criuPath });
  await server.pageServerChild({ imagesDir: dir.path, pageServer: { address: '127.0.0.1', port: 0 }, statusFd: write });
  expect(await heard(read)).toBe('\0');
});

test('a lazy dump says when it is ready to serve the memory, and ends when all of it has been brought', async ({
  skip,
}) => {
  await using dir = await scratch();
  await using images = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  const port = await freePort();
  await using dumper = await CriuClient.start({ criuPath });
  let tellReady: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => (tellReady = resolve));
  const dump = dumper.dump(
    { pid: counter.pid, imagesDir: images.path, lazyPages: true, pageServer: { port }, ...quiet },
    { onNotify: ({ script }) => (script === 'status-ready' ? tellReady() : undefined) },
  );
  await Promise.race([ready, dump]);
  const stood = counter.count();
  await using lazy = await LazyPages.start({
    criuPath,
    imagesDir: images.path,
    workDir: work.path,
    pageServer: { address: '127.0.0.1', port },
  });
  // The dumped tree still holds its pids: they are free in another pid namespace, where no CRIU could answer us.
  const args = [
    'restore',
    '-D',
    images.path,
    '-W',
    work.path,
    '-o',
    'restore.log',
    '--lazy-pages',
    '--manage-cgroups=ignore',
  ];
  const restored = spawn('unshare', ['--pid', '--fork', '--kill-child', '--mount-proc', criuPath, ...args], {
    stdio: 'ignore',
  });
  let refused: CriuError | undefined;
  try {
    await dump.catch((error: unknown) => (refused = error as CriuError));
    if (refused === undefined) {
      await lazy.finished();
      await counter.gone();
      await until(() => counter.count() > stood, 'the restored tree counts on');
    }
  } finally {
    const ended = once(restored, 'exit');
    if (restored.exitCode === null) {
      restored.kill('SIGKILL');
      await ended;
    }
  }
  if (refused === undefined) return;
  expect(mayEnlargePipes(), refused.message).toBe(false);
  expect(refused.facts.problem).toBe('lazy-pages');
  expect(await counter.advances()).toBe(true);
  skip('needs CAP_SYS_RESOURCE, or an fs.pipe-max-size of 4 MiB');
});

/** CAP_SYS_RESOURCE: linux/capability.h. */
function mayEnlargePipes(): boolean {
  const [, effective = '0'] = /^CapEff:\s*(\w+)/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? [];
  return ((BigInt(`0x${effective}`) >> 24n) & 1n) === 1n;
}

test('a restored tree is the child of who asked for it', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: work.path, ...quiet });
  await counter.gone();
  await using restorer = await CriuClient.start({ criuPath });
  const { pid, ended } = await restorer.restore({ imagesDir: work.path, logFile: 'restore.log', rstSibling: true });
  expect(readFileSync(`/proc/${pid}/status`, 'latin1')).toMatch(new RegExp(`^PPid:\\s${process.pid}$`, 'm'));
  expect(await counter.advances()).toBe(true);
  process.kill(pid, 'SIGKILL');
  expect(await ended).toMatchObject({ exitSignal: 'SIGKILL' });
});

test.each<{ how: string; code: string; call: (client: CriuClient, file: string) => WorkOptions }>([
  {
    how: 'a file has another size',
    code: 'CRIU_REQUEST_FAILED',
    call: (_, file) => (appendFileSync(file, 'more'), {}),
  },
  { how: 'it is cancelled at the last moment', code: 'CRIU_ABORTED', call: () => cancelledAt('post-restore') },
  {
    how: 'CRIU is killed at the last moment',
    code: 'CRIU_DIED',
    call: (client) => ({
      onNotify: ({ script }) => void (script === 'post-restore' && process.kill(client.pid, 'SIGKILL')),
    }),
  },
  {
    how: 'CRIU is killed before there is a child',
    code: 'CRIU_DIED',
    call: (client) => ({
      onNotify: ({ script }) => void (script === 'pre-restore' && process.kill(client.pid, 'SIGKILL')),
    }),
  },
])('a child whose restore fails is reaped, so that the next restore has its pid: $how', async ({ code, call }) => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: work.path, ...quiet });
  await counter.gone();
  const file = counter.files[0];
  const before = readFileSync(file);
  const restore = async (with_: (client: CriuClient) => WorkOptions): Promise<RestoreResult> => {
    await using client = await CriuClient.start({ criuPath });
    return await client.restore({ imagesDir: work.path, logFile: 'restore.log', rstSibling: true }, with_(client));
  };
  expect((await failure(restore((client) => call(client, file)))).code).toBe(code);
  expect(existsSync(`/proc/${counter.pid}`)).toBe(false);
  await counter.gone(); // the root's children are init's to reap
  writeFileSync(file, before);
  const { pid, ended } = await restore(() => ({}));
  expect(await counter.advances()).toBe(true);
  process.kill(pid, 'SIGKILL');
  await ended;
});

function cancelledAt(script: string): WorkOptions {
  const controller = new AbortController();
  return {
    signal: controller.signal,
    onNotify: (notification) => void (notification.script === script && controller.abort()),
  };
}

test('a program takes the place of CRIU once the tree is restored, and outlives the session', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: work.path, ...quiet });
  await counter.gone();
  await using restorer = await CriuClient.start({ criuPath });
  await restorer.restore({ imagesDir: work.path, logFile: 'restore.log', execCmd: ['sleep', '1000'] });
  try {
    await restorer.close();
    await until(
      () => readFileSync(`/proc/${restorer.pid}/cmdline`, 'latin1') === 'sleep\x001000\0',
      'the program runs',
    );
    expect(readFileSync(`/proc/${counter.pid}/status`, 'latin1')).toMatch(new RegExp(`^PPid:\\s${restorer.pid}$`, 'm'));
    expect(await counter.advances()).toBe(true);
  } finally {
    process.kill(restorer.pid, 'SIGKILL');
  }
  expect(await restorer.ended).toMatchObject({ exitSignal: 'SIGKILL' });
});

test('CRIU keeps pidfds in the datagram socket that it is given, and refuses another', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  const dump = async (pidfdStoreSk: number): Promise<void> => {
    await using client = await CriuClient.start({ criuPath });
    await client.dump({ pid: counter.pid, imagesDir: work.path, leaveRunning: true, pidfdStoreSk, ...quiet });
  };
  const [ours, theirs] = native().socketpairSeqpacket();
  const socket = new PacketSocket(ours, 100);
  try {
    expect((await failure(dump(theirs))).message).toContain('Pidfd store socket must be of type SOCK_DGRAM');
    // Node.js makes none of these.
    const python =
      'import socket as s; store = s.socket(s.AF_UNIX, s.SOCK_DGRAM); way = s.socket(fileno=3); s.send_fds(way, [b"x"], [store.fileno()])';
    expect(spawnSync('python3', ['-c', python], { stdio: ['ignore', 'ignore', 'inherit', theirs] }).status).toBe(0);
    const [store = -1] = (await socket.receive())?.fds ?? [];
    opened.push(store);
    await dump(store);
    // CRIU has bound it to a name of its own.
    expect(readFileSync('/proc/net/unix', 'latin1')).toContain(`@/criu-pidfd-store-${process.pid}-${store}-`);
  } finally {
    socket.close();
    closeSync(theirs);
  }
});
