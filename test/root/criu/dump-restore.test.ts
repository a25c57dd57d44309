import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import {
  CriuClient,
  criuErrorOf,
  findCriu,
  readDumpedFiles,
  readDumpStats,
  readInventory,
  readPstree,
  readRestoreStats,
  type CriuNotification,
} from '../../../src/criu/index.js';
import { Counter, failure, scratch, until } from '../../fixtures/criu.js';

let criuPath: string;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
});

// The same on CRIU 4.1.1, 4.2.1 and 4.3; without a network namespace of the tree's own there is no network-lock.
const beforeDump = ['pre-dump', 'network-lock', 'query-ext-files'];
const quiet = { networkLock: 'skip' } as const;

test('a dumped tree, killed and restored, goes on counting from where it stood', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path, { ownNetwork: true });
  const dumped: string[] = [];
  const restored: CriuNotification[] = [];

  let atPostDump = 0;
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump(
    { pid: counter.pid, imagesDir: work.path, leaveRunning: false, ...quiet },
    {
      onNotify: async ({ script }) => {
        dumped.push(script);
        if (script !== 'post-dump') return;
        atPostDump = counter.count();
        await sleep(20);
        expect(counter.count()).toBe(atPostDump);
      },
    },
  );
  await dumper.close();
  // No network-unlock: the tree was killed.
  expect(dumped).toEqual([...beforeDump, 'post-dump']);

  await counter.kill();
  expect(counter.count()).toBe(atPostDump);

  await using restorer = await CriuClient.start({ criuPath });
  const { pid } = await restorer.restore(
    { imagesDir: work.path, logFile: 'restore.log' },
    { onNotify: (notification) => void restored.push(notification) },
  );
  expect(pid).toBe(counter.pid);
  expect(restored.map(({ script }) => script)).toEqual([
    'pre-restore',
    'setup-namespaces',
    'post-setup-namespaces',
    'post-restore',
    'network-unlock',
    'pre-resume',
    'post-resume',
  ]);
  expect(restored.find(({ script }) => script === 'post-restore')?.pid).toBe(pid);
  expect(await counter.advances()).toBe(true);
  expect(counter.count()).toBeGreaterThan(atPostDump);

  const stats = await readDumpStats(work.path);
  expect(stats.frozenTimeUs).toBeGreaterThan(0);
  expect(stats.pagesWritten).toBeGreaterThan(0);
  expect((await readRestoreStats(work.path)).restoreTimeUs).toBeGreaterThan(0);
  expect(await readPstree(work.path)).toEqual([
    { pid: counter.pid, ppid: 0, pgid: counter.pid, sid: counter.pid, threads: [counter.pid] },
    { pid: counter.childPid, ppid: counter.pid, pgid: counter.pid, sid: counter.pid, threads: [counter.childPid] },
  ]);
  expect((await readInventory(work.path)).imgVersion).toBe(2);
  const files = await readDumpedFiles(work.path);
  const open = files.filter(({ path }) => path.toString() === counter.files[0]);
  expect(open.map(({ size }) => size)).toEqual(open.map(() => 20));
  expect(open.map(({ flags }) => flags & 3).sort()).toEqual([0, 0, 2]);
});

test('a dump that leaves the tree running takes directories as descriptors', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path, { ownNetwork: true });
  await using imagesDir = await open(work.path);
  await using client = await CriuClient.start({ criuPath });
  const scripts: string[] = [];
  await client.dump(
    { pid: counter.pid, imagesDir: imagesDir.fd, leaveRunning: true, logFile: 'dump.log', logLevel: 4, ...quiet },
    { onNotify: ({ script }) => void scripts.push(script) },
  );
  expect(scripts).toEqual([...beforeDump, 'post-dump', 'network-unlock']);
  expect(readFileSync(`${work.path}/dump.log`, 'utf8')).toContain('Dumping finished successfully');
  expect(await counter.advances()).toBe(true);
  expect((await imagesDir.stat()).isDirectory()).toBe(true);
});

test('a callback that throws at any notification is the error, and the tree runs on', async () => {
  await using dir = await scratch();
  await using counter = await Counter.start(dir.path, { ownNetwork: true });
  for (const refused of ['pre-dump', 'network-lock', 'post-dump']) {
    await using work = await scratch();
    await using client = await CriuClient.start({ criuPath });
    const mine = new Error(`no ${refused}`);
    const dump = client.dump(
      { pid: counter.pid, imagesDir: work.path, leaveRunning: true, ...quiet },
      {
        onNotify: async ({ script }) => {
          await Promise.resolve();
          if (script === refused) throw mine;
        },
      },
    );
    await expect(dump).rejects.toBe(mine);
    expect(criuErrorOf(mine)?.code).toBe('CRIU_REQUEST_FAILED');
    expect(await counter.advances()).toBe(true);
    await client.close();
  }
});

test('CRIU killed inside any notification of a dump is CRIU_DIED with the signal, and the tree runs on', async () => {
  await using dir = await scratch();
  await using counter = await Counter.start(dir.path, { ownNetwork: true });
  for (const at of [...beforeDump, 'post-dump', 'network-unlock']) {
    await using work = await scratch();
    await using client = await CriuClient.start({ criuPath });
    const error = await failure(
      client.dump(
        { pid: counter.pid, imagesDir: work.path, leaveRunning: true, ...quiet },
        {
          onNotify: ({ script }) => {
            if (script === at) process.kill(client.pid, 'SIGKILL');
          },
        },
      ),
    );
    expect(error.code).toBe('CRIU_DIED');
    expect(error.facts).toMatchObject({ request: 'DUMP', exitSignal: 'SIGKILL' });
    expect(await counter.advances(), `after a kill at ${at}`).toBe(true);
  }
});

test('a restore that fails leaves no process behind, whether it was refused, cancelled, or CRIU killed', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path, { ownNetwork: true });
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: work.path, ...quiet });
  await dumper.close();

  const mine = new Error('no');
  const ways: Record<string, (criu: number, cancel: AbortController) => void> = {
    refused: () => {
      throw mine;
    },
    cancelled: (_, cancel) => cancel.abort(mine),
    killed: (criu) => process.kill(criu, 'SIGKILL'),
  };
  for (const [way, act] of Object.entries(ways)) {
    for (const at of ['pre-restore', 'setup-namespaces', 'post-setup-namespaces', 'post-restore', 'pre-resume']) {
      await counter.gone();
      await using client = await CriuClient.start({ criuPath });
      const cancel = new AbortController();
      const onNotify = ({ script }: CriuNotification): void => {
        if (script === at) act(client.pid, cancel);
      };
      const error: unknown = await client.restore({ imagesDir: work.path }, { onNotify, signal: cancel.signal }).then(
        () => 'it did not fail',
        (reason: unknown) => reason,
      );
      if (way === 'refused') {
        expect(error).toBe(mine);
        expect(criuErrorOf(mine)?.code).toBe(at === 'pre-resume' ? 'CRIU_WENT_ON' : 'CRIU_REQUEST_FAILED');
      } else {
        expect(error).toMatchObject({
          code: way === 'killed' ? 'CRIU_DIED' : 'CRIU_ABORTED',
          facts: { request: 'RESTORE' },
        });
      }
      await client.close();
      // SIGKILL has been sent, by CRIU or by us; the kernel may need a moment.
      await until(() => counter.alive().length === 0, `${way} at ${at}: nothing is left`, 1000);
    }
  }
}, 300_000);

test('an abort inside a notification lets the tree run on, even if the callback never returns', async () => {
  await using dir = await scratch();
  await using counter = await Counter.start(dir.path);
  for (const at of ['pre-dump', 'post-dump']) {
    await using work = await scratch();
    await using client = await CriuClient.start({ criuPath });
    const controller = new AbortController();
    const reason = new Error('enough');
    const error = await failure(
      client.dump(
        { pid: counter.pid, imagesDir: work.path, leaveRunning: true, ...quiet },
        {
          signal: controller.signal,
          onNotify: ({ script }) => {
            if (script !== at) return;
            setTimeout(() => controller.abort(reason), 10);
            return new Promise<void>(() => undefined);
          },
        },
      ),
    );
    expect(error.code).toBe('CRIU_ABORTED');
    expect(error.cause).toBe(reason);
    expect(await counter.advances()).toBe(true);
  }
});

test('a time limit ends a dump whose callback hangs, and the tree runs on', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using client = await CriuClient.start({ criuPath });
  await client.version(); // or the time could be up before the dump is asked for
  const error = await failure(
    client.dump(
      { pid: counter.pid, imagesDir: work.path, leaveRunning: true, ...quiet },
      {
        timeoutMs: 1000,
        onNotify: ({ script }) => (script === 'post-dump' ? new Promise<void>(() => undefined) : undefined),
      },
    ),
  );
  expect(error.code).toBe('CRIU_TIMEOUT');
  expect(error.facts).toMatchObject({ request: 'DUMP', timeoutMs: 1000, logPath: `${work.path}/criu.log` });
  expect(await counter.advances()).toBe(true);
});

test('a dump of no process says ESRCH and quotes the log', async () => {
  await using work = await scratch();
  await using client = await CriuClient.start({ criuPath });
  const error = await failure(client.dump({ pid: 4_000_000, imagesDir: work.path, logFile: 'dump.log' }));
  expect(error.code).toBe('CRIU_REQUEST_FAILED');
  expect(error.facts).toMatchObject({ request: 'DUMP', crErrnoName: 'ESRCH', logPath: `${work.path}/dump.log` });
  expect(error.facts.logErrors?.join('\n')).toContain('4000000');
});

test('a restore that finds a file of another size names it', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({ pid: counter.pid, imagesDir: work.path, ...quiet });
  await dumper.close();
  await counter.kill();
  await using file = await open(counter.files[0], 'r+');
  await file.truncate(7);
  await using restorer = await CriuClient.start({ criuPath });
  const error = await failure(restorer.restore({ imagesDir: work.path, logFile: 'restore.log' }));
  expect(error.code).toBe('CRIU_REQUEST_FAILED');
  expect(error.message).toContain('has bad size');
});

test('a dump of this very process is refused, and the session goes on', async () => {
  await using work = await scratch();
  await using client = await CriuClient.start({ criuPath });
  const error = await failure(client.dump({ pid: process.pid, imagesDir: work.path }));
  expect(error.facts).toMatchObject({ option: 'pid' });
  expect((await client.version()).major).toBeGreaterThanOrEqual(3);
});

test('a directory that is not there is named, and the tree was not touched', async () => {
  await using dir = await scratch();
  await using counter = await Counter.start(dir.path);
  await using client = await CriuClient.start({ criuPath });
  const error = await failure(client.dump({ pid: counter.pid, imagesDir: `${dir.path}/missing` }));
  expect(error.code).toBe('BAD_OPTION');
  expect(error.facts.option).toBe('imagesDir');
  expect(error.cause).toMatchObject({ code: 'ENOENT' });
  expect(await counter.advances()).toBe(true);
});
