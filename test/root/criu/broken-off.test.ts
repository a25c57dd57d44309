/** Requests that end otherwise than by CRIU's answer: whoever ends them, nothing hangs, and the right thing is said. */
import { spawn, spawnSync } from 'node:child_process';
import { getEventListeners } from 'node:events';
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { beforeAll, describe, expect, test } from 'vitest';
import { CriuClient, CriuError, findCriu, type CriuNotification } from '../../../src/criu/index.js';
import { Child } from '../../../src/process.js';
import { Counter, failure, scratch, until } from '../../fixtures/criu.js';
import { fakeCriu, fakeService, packets } from '../../fixtures/fake-criu.js';

let criuPath: string;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
});

const quiet = { networkLock: 'skip', leaveRunning: true } as const;
const fixture = (name: string): string => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));
const openFds = (): number => readdirSync('/proc/self/fd').length;

describe('a callback that never returns', () => {
  async function dumpThatHangs(
    dir: string,
    pid: number,
  ): Promise<{ client: CriuClient; dump: Promise<void>; signal: () => AbortSignal }> {
    const client = await CriuClient.start({ criuPath });
    let seen: AbortSignal | undefined;
    const onNotify = (_: unknown, signal: AbortSignal): Promise<void> => {
      seen = signal;
      return new Promise(() => undefined);
    };
    const dump = client.dump({ pid, imagesDir: dir, ...quiet }, { onNotify });
    dump.catch(() => undefined);
    await until(() => seen !== undefined, 'the callback is called');
    return { client, dump, signal: () => seen as AbortSignal };
  }

  test('is given up when the client is closed', async () => {
    await using dir = await scratch();
    await using counter = await Counter.start(dir.path);
    const { client, dump, signal } = await dumpThatHangs(dir.path, counter.pid);
    await client.close();
    expect((await failure(dump)).code).toBe('CRIU_ABORTED');
    expect(signal().aborted).toBe(true);
    expect(await counter.advances()).toBe(true);
  });

  test('is given up when CRIU is killed', async () => {
    await using dir = await scratch();
    await using counter = await Counter.start(dir.path);
    const { client, dump, signal } = await dumpThatHangs(dir.path, counter.pid);
    process.kill(client.pid, 'SIGKILL');
    const error = await failure(dump);
    expect([error.code, error.facts.exitSignal]).toEqual(['CRIU_DIED', 'SIGKILL']);
    expect(signal().aborted).toBe(true);
    await client.close();
  });

  test('in a worker thread that is terminated lets the tree go on', async () => {
    await using dir = await scratch();
    await using counter = await Counter.start(dir.path);
    const before = openFds();
    const worker = new Worker(fixture('hanging-dump.mjs'), {
      workerData: { criuPath, pid: counter.pid, imagesDir: dir.path },
    });
    const criu = await new Promise<number>((resolve, reject) => worker.once('message', resolve).once('error', reject));
    const at = counter.count();
    await sleep(50);
    expect(counter.count()).toBe(at); // CRIU holds it
    await worker.terminate();
    expect(await counter.advances()).toBe(true);
    await until(() => !existsSync(`/proc/${criu}`), 'CRIU has ended, and has been reaped although its thread is gone');
    await expect.poll(openFds).toBe(before);
  });
});

test('a child that is killed while CRIU holds it is reaped when CRIU lets go', async () => {
  await using dir = await scratch();
  const child = Child.start({ path: '/bin/sleep', args: ['1000'] });
  await using client = await CriuClient.start({ criuPath });
  let endWhileHeld: unknown;
  const onNotify = async ({ script }: { script: string }): Promise<void> => {
    if (script !== 'post-dump') return;
    child.kill('SIGKILL');
    await sleep(100);
    endWhileHeld = child.end;
  };
  await client
    .dump({ pid: child.pid, imagesDir: dir.path, ...quiet, shellJob: true }, { onNotify })
    .catch(() => undefined);
  expect(await child.ended).toEqual({ exitSignal: 'SIGKILL' });
  expect(endWhileHeld).toBeUndefined();
  expect(existsSync(`/proc/${child.pid}`)).toBe(false);
});

test('an abort says so, whatever its reason is', async () => {
  await using dir = await scratch();
  const client = await CriuClient.start({ criuPath: await fakeCriu(dir.path, 'time.sleep(60)'), graceMs: 0 });
  const stop = new AbortController();
  const version = failure(client.version({ signal: stop.signal }));
  stop.abort(new CriuError('CRIU_REQUEST_FAILED', { request: 'another' }));
  expect((await version).code).toBe('CRIU_ABORTED');
  expect(existsSync(`/proc/${client.pid}`)).toBe(false);
});

test('one signal ends many requests, with one listener', async () => {
  await using dir = await scratch();
  const silent = await fakeCriu(dir.path, 'time.sleep(60)');
  const stop = new AbortController();
  const clients = await Promise.all(
    Array.from({ length: 12 }, () => CriuClient.start({ criuPath: silent, graceMs: 0 })),
  );
  await failure((clients[0] as CriuClient).version({ signal: stop.signal, timeoutMs: 10 })); // and takes nothing from the others
  const codes = clients.slice(1).map(async (client) => (await failure(client.version({ signal: stop.signal }))).code);
  expect(getEventListeners(stop.signal, 'abort').length).toBe(1); // Node warns of eleven
  stop.abort();
  expect(new Set(await Promise.all(codes))).toEqual(new Set(['CRIU_ABORTED']));
  expect(getEventListeners(stop.signal, 'abort').length).toBe(0);
  await Promise.all(clients.map((client) => client.close()));
});

test('the time limit is that of the whole call, with the question for the version', async () => {
  await using dir = await scratch();
  const body = `s.recv(9999); time.sleep(0.5); s.send(${packets.version}); s.recv(9999); time.sleep(0.5); s.send(b"\\x08\\x01\\x10\\x01")\ntime.sleep(60)`;
  await using client = await CriuClient.start({ criuPath: await fakeCriu(dir.path, body), graceMs: 0 });
  const error = await failure(client.dump({ pid: 1 << 21, imagesDir: dir.path }, { timeoutMs: 800 }));
  expect([error.code, error.facts.timeoutMs]).toEqual(['CRIU_TIMEOUT', 800]);
});

test.each([Infinity, NaN, -1, 3e9])('a time of %s is refused', async (ms) => {
  expect((await failure(CriuClient.start({ criuPath, graceMs: ms }))).facts.option).toBe('graceMs');
  await using client = await CriuClient.start({ criuPath });
  const error = await failure(client.version({ timeoutMs: ms }));
  expect([error.code, error.facts.option]).toEqual(['BAD_OPTION', 'timeoutMs']);
  expect((await client.version()).major).toBeGreaterThan(3); // nothing has happened to the session
});

describe('a refusal', () => {
  test('without a word carries what CRIU wrote to stderr, and its version', async () => {
    await using dir = await scratch();
    const body = `s.recv(9999); s.send(${packets.version}); s.recv(9999); sys.stderr.write("no such namespace\\n"); s.send(${packets.refusal(1)})`;
    await using client = await CriuClient.start({ criuPath: await fakeCriu(dir.path, body) });
    const error = await failure(client.dump({ pid: 1 << 21, imagesDir: dir.path }));
    expect(error.message).toMatch('CRIU 4.1 refused DUMP: no such namespace');
    expect(error.facts).toMatchObject({ version: '4.1', stderr: 'no such namespace\n' });
  });

  test('does not carry the lines of another request that has logged there', async () => {
    await using dir = await scratch();
    await writeFile(join(dir.path, 'criu.log'), '(00.1) Error (criu/x.c:1): of yesterday\n');
    const body = `s.recv(9999); s.send(${packets.version}); s.recv(9999); s.send(${packets.refusal(1)})`;
    await using client = await CriuClient.start({ criuPath: await fakeCriu(dir.path, body) });
    const error = await failure(client.dump({ pid: 1 << 21, imagesDir: dir.path }));
    expect([error.code, error.facts.logErrors, error.facts.logPath]).toEqual([
      'CRIU_REQUEST_FAILED',
      undefined,
      undefined,
    ]);
  });
});

test("a service's pids are not taken for processes here", async () => {
  await using dir = await scratch();
  const stranger = spawn('sleep', ['1000']);
  try {
    const body = `s.recv(9999); s.send(${packets.version}); s.recv(9999); s.send(${packets.notify('setup-namespaces', stranger.pid ?? 0)}); s.recv(9999); s.send(${packets.refusal(2)}); time.sleep(60)`;
    await using service = await fakeService(dir.path, body);
    await using client = await CriuClient.connect({ socketPath: service.socketPath });
    const scripts: string[] = [];
    const error = await failure(
      client.restore({ imagesDir: dir.path }, { onNotify: ({ script }) => void scripts.push(script) }),
    );
    expect([error.code, scripts]).toEqual(['CRIU_REQUEST_FAILED', ['setup-namespaces']]);
    expect(stranger.exitCode ?? stranger.signalCode).toBeNull();
    expect(readFileSync(`/proc/${stranger.pid}/stat`, 'latin1')).toMatch(/\) S /);
  } finally {
    stranger.kill('SIGKILL');
  }
});

test("a service's pids may be those of processes here", async () => {
  await using dir = await scratch();
  const body = `s.recv(9999); s.send(${packets.version}); s.recv(9999); time.sleep(0.3); s.send(${packets.refusal(1)}); time.sleep(60)`;
  await using service = await fakeService(dir.path, body);
  await using client = await CriuClient.connect({ socketPath: service.socketPath });
  let told = 0;
  // It has a pid 1 of its own.
  const error = await failure(
    client.dump({ pid: process.pid, imagesDir: dir.path }, { onProgress: () => void told++ }),
  );
  expect([error.code, told]).toEqual(['CRIU_REQUEST_FAILED', 0]);
});

test('a log that cannot be, since its name is too long, is CRIU that refuses or dies', async () => {
  await using dir = await scratch();
  await using counter = await Counter.start(dir.path);
  await using client = await CriuClient.start({ criuPath });
  const error = await failure(
    client.dump({ pid: counter.pid, imagesDir: dir.path, logFile: 'x'.repeat(256), ...quiet }),
  );
  expect(['CRIU_REQUEST_FAILED', 'CRIU_DIED']).toContain(error.code);
  expect(await counter.advances()).toBe(true);
});

test('a tree that this process is in is refused', async () => {
  await using dir = await scratch();
  await using client = await CriuClient.start({ criuPath });
  for (const pid of [process.pid, process.ppid]) {
    const error = await failure(client.dump({ pid, imagesDir: dir.path }));
    expect([error.code, error.facts.option]).toEqual(['BAD_OPTION', 'pid']);
  }
});

test('without a descriptor left the error says so, and nothing is left behind', async () => {
  await using dir = await scratch();
  const silent = await fakeCriu(dir.path, 'time.sleep(60)');
  const { stdout, stderr } = spawnSync(
    'bash',
    ['-c', `ulimit -n 1024; exec ${process.execPath} ${fixture('no-descriptors.mjs')} ${criuPath} ${silent}`],
    { encoding: 'utf8' },
  );
  expect([stdout, stderr]).toEqual(['CRIU_IO CRIU_IO ok\n', '']);
});

describe('a CRIU that does not keep to its protocol', () => {
  test('has not dumped when it says so and wrote no images', async () => {
    await using dir = await scratch();
    await using counter = await Counter.start(dir.path);
    const answer = `while True:\n  m = s.recv(1 << 20)\n  if not m: break\n  s.send(${packets.version} if m[1] == 10 else bytes([8, 1, 16, 1]))`;
    await using client = await CriuClient.start({ criuPath: await fakeCriu(dir.path, answer) });
    const error = await failure(client.dump({ pid: counter.pid, imagesDir: dir.path }));
    expect(error.code).toBe('CRIU_IMAGE');
    expect(error.facts.path).toBe(join(dir.path, 'inventory.img'));
  });

  test('sends descriptors that its notifications do not have: they are closed, and no callback gets them', async () => {
    await using dir = await scratch();
    await using counter = await Counter.start(dir.path);
    const send = (packet: string): string =>
      `s.sendmsg([${packet}], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("2i", f, f))])\n  s.recv(1 << 20)`;
    const body = `f = os.open(sys.argv[0], os.O_RDONLY)
while True:
  m = s.recv(1 << 20)
  if not m: break
  if m[1] == 10:
    s.send(${packets.version})
    continue
  ${send(packets.notify('pre-dump', counter.pid))}
  ${send(packets.notify('post-dump', counter.pid))}
  s.send(${packets.refusal(1)})`;
    await using client = await CriuClient.start({ criuPath: await fakeCriu(dir.path, body) });
    const given: (number | undefined)[] = [];
    const onNotify = ({ fd }: CriuNotification): void => void given.push(fd);
    expect((await failure(client.dump({ pid: counter.pid, imagesDir: dir.path }, { onNotify }))).code).toBe(
      'CRIU_REQUEST_FAILED',
    );
    expect(given).toEqual([undefined, undefined]);
    const isOpen = readdirSync('/proc/self/fd').some((fd) => linkOf(`/proc/self/fd/${fd}`) === join(dir.path, 'criu'));
    expect(isOpen).toBe(false);
  });
});

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined; // that of the listing itself
  }
}
