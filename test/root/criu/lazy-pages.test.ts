import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cp, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CriuClient, CriuError, findCriu, LazyPages } from '../../../src/criu/index.js';
import { Counter, scratch } from '../../fixtures/criu.js';

const PIPE_BYTES = 4 << 20;
let criuPath: string;
const tag = `sft${process.pid % 100000}`;
const sh = (command: string): void => {
  const { status, stderr } = spawnSync('sh', ['-ec', command], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}: ${stderr}`);
};
beforeAll(async () => {
  criuPath = (await findCriu()).path;
  await using client = await CriuClient.start({ criuPath });
  expect((await client.featureCheck({ lazyPages: true })).lazyPages, 'needs a kernel with userfaultfd').toBe(true);
  // Two machines: this one at 10.213.0.1 and a network namespace at 10.213.0.2.
  sh(`ip netns add ${tag}; ip link add ${tag}a type veth peer name ${tag}b; ip link set ${tag}b netns ${tag}; ip addr add 10.213.0.1/24 dev ${tag}a; ip link set ${tag}a up; ip netns exec ${tag} sh -ec 'ip addr add 10.213.0.2/24 dev ${tag}b; ip link set ${tag}b up; ip link set lo up'`);
});
afterAll(() => {
  spawnSync('ip', ['link', 'del', `${tag}a`]);
  spawnSync('ip', ['netns', 'del', tag]);
});

/**
 * CRIU enlarges a pipe to up to 4 MiB, and goes on with none when it may not (criu/page-pipe.c, pipe_read_dest_init): over the
 * system's limit that takes CAP_SYS_RESOURCE, which not every machine gives its root. The limit can be raised without.
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

test('memory comes on demand over the network, from a page server that has the images', async () => {
  using _room = roomForPipes();
  await using dir = await scratch();
  await using source = await scratch();
  await using target = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: source.path, networkLock: 'skip' });
  await counter.gone();
  const stood = counter.count();
  const server = { address: '10.213.0.2', port: 27182 };
  await using remote = await CriuClient.start({ criuPath: elsewhere(dir.path) });
  const { pid } = await remote.pageServerChild({ imagesDir: source.path, lazyPages: true, logFile: 'server.log', pageServer: server });
  // What is not lazy (stacks, shared memory) the restore reads from its own images.
  await cp(source.path, target.path, { recursive: true });
  const before = received();
  await using lazy = await LazyPages.start({ criuPath, imagesDir: target.path, workDir: work.path, pageServer: server });
  await using restorer = await CriuClient.start({ criuPath });
  await restorer.restore({ imagesDir: target.path, workDir: work.path, lazyPages: true, logFile: 'restore.log' });
  expect(await counter.advances()).toBe(true);
  expect(counter.count()).toBeGreaterThan(stood);
  await lazy.finished();
  expect(await remote.waitPid(pid)).toEqual({ exitCode: 0 });
  expect(received() - before).toBeGreaterThan(32 * 1024);
  expect(await counter.advances()).toBe(true);
});

/** Bytes that came from the other machine. */
function received(): number {
  return Number(readFileSync(`/sys/class/net/${tag}a/statistics/rx_bytes`, 'utf8'));
}

test("a page server in another network namespace takes the memory of a dump", async () => {
  await using dir = await scratch();
  await using memory = await scratch();
  await using rest = await scratch();
  await using counter = await Counter.start(dir.path);
  await using server = await CriuClient.start({ criuPath: elsewhere(dir.path) });
  const { pid, port } = await server.pageServerChild({ imagesDir: memory.path, pageServer: { address: '10.213.0.2', port: 27183 } });
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: rest.path, leaveRunning: true, pageServer: { address: '10.213.0.2', port }, networkLock: 'skip' });
  expect(await server.waitPid(pid)).toEqual({ exitCode: 0 });
  expect((await readdir(memory.path)).some((name) => name.startsWith('pages-'))).toBe(true);
  expect(await counter.advances()).toBe(true);
});

test('a daemon that cannot start, or is gone, is CRIU_DIED', async () => {
  await using dir = await scratch();
  const error: unknown = await LazyPages.start({ criuPath, imagesDir: dir.path, workDir: dir.path }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(CriuError);
  expect(error).toMatchObject({ code: 'CRIU_DIED', facts: { request: 'lazy-pages' } });
  await expect(LazyPages.start({ criuPath: '/nonexistent/criu', imagesDir: dir.path, workDir: dir.path })).rejects.toMatchObject({ code: 'CRIU_NOT_FOUND' });
});
