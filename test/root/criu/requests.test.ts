import { execFileSync, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
} from 'node:fs';
import { chmod, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import ts from 'typescript';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  CriuClient,
  findCriu,
  followLog,
  parseLogLine,
  readDumpStats,
  type CriuError,
  type CriuServiceClient,
  type LogLine,
} from '../../../src/criu/index.js';
import { PacketSocket } from '../../../src/criu/process/packet-socket.js';
import { native } from '../../../src/native.js';
import { Child } from '../../../src/process.js';
import { Counter, failure, freePort, scratch, until } from '../../fixtures/criu.js';

let criuPath: string;
let memTrack: boolean;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
  await using client = await CriuClient.start({ criuPath });
  memTrack = (await client.featureCheck({ memTrack: true })).memTrack === true;
});

const quiet = { networkLock: 'skip', leaveRunning: true } as const;

test('the processor is written down, and this machine can do what it itself can do; the session goes on', async () => {
  await using dir = await scratch();
  await using client = await CriuClient.start({ criuPath });
  await client.cpuinfoDump({ imagesDir: dir.path });
  expect(await readdir(dir.path)).toContain('cpuinfo.img');
  await client.cpuinfoCheck({ imagesDir: dir.path });
  expect((await client.version()).major).toBeGreaterThan(2);
  await rm(join(dir.path, 'cpuinfo.img'));
  expect((await failure(client.cpuinfoCheck({ imagesDir: dir.path }))).facts.request).toBe('CPUINFO_CHECK');
});

test('without root CRIU finds what it needs when it is told that it has none', async ({ skip }) => {
  await using dir = await scratch();
  await chmod(dir.path, 0o777);
  const client = new URL('../../../dist/src/index.js', import.meta.url).href;
  const ask = (options: string, TMPDIR = dir.path): string => {
    const code = `import { CriuClient } from '${client}'; await using c = await CriuClient.start({ criuPath: '${criuPath}' }); console.log(await c.check(${options}).then(() => 'well', (error) => error.facts.problem ?? error.code));`;
    const capabilities = '+checkpoint_restore,+sys_ptrace';
    const { stdout, stderr } = spawnSync(
      'setpriv',
      [
        '--reuid=65534',
        '--regid=65534',
        '--clear-groups',
        `--inh-caps=${capabilities}`,
        `--ambient-caps=${capabilities}`,
        process.execPath,
        '--input-type=module',
        '-e',
        ts.transpile(code, { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }),
      ],
      { encoding: 'utf8', cwd: '/', env: { ...process.env, TMPDIR } },
    );
    return stdout === '' ? stderr : stdout.trim();
  };
  const unable = ask('{ unprivileged: true }');
  if (unable.includes('EACCES') || unable.includes('ERR_MODULE_NOT_FOUND'))
    skip('needs a checkout that others may read');
  expect(unable).toBe('well');
  expect(ask('')).toBe('needs-root');
  expect(ask('', '/proc')).toBe('CRIU_IO');
});

test('a page server takes the memory of a dump, and the tree is restored from what it wrote', async () => {
  await using dir = await scratch();
  await using memory = await scratch();
  await using rest = await scratch();
  await using counter = await Counter.start(dir.path);
  await using server = await CriuClient.start({ criuPath });
  const { pid, port } = await server.pageServerChild({
    imagesDir: memory.path,
    pageServer: { address: '127.0.0.1', port: await freePort() },
    logFile: 'server.log',
    logLevel: 4,
  });
  expect(existsSync(`/proc/${pid}`)).toBe(true);

  await using dumper = await CriuClient.start({ criuPath });
  await dumper.dump({
    pid: counter.pid,
    imagesDir: rest.path,
    pageServer: { address: '127.0.0.1', port },
    networkLock: 'skip',
  });
  expect(await server.waitPid(pid)).toEqual({ exitCode: 0 });
  expect((await readdir(memory.path)).filter((name) => name.startsWith('pages-')).length).toBeGreaterThan(0);
  expect((await readdir(rest.path)).filter((name) => name.startsWith('pages-'))).toEqual([]);

  await counter.gone();
  const stood = counter.count();
  for (const name of await readdir(memory.path))
    if (/^pages?(map)?-/.test(name)) await writeFile(join(rest.path, name), readFileSync(join(memory.path, name)));
  await using restorer = await CriuClient.start({ criuPath });
  await restorer.restore({ imagesDir: rest.path, logFile: 'restore.log' });
  expect(await counter.advances()).toBe(true);
  expect(counter.count()).toBeGreaterThan(stood);
});

test('a page server takes the memory of a dump over an encrypted connection, and from nobody without a certificate or with a revocation list that is not there', async () => {
  await using keys = await scratch();
  const key = (name: string): string => join(keys.path, name);
  const openssl = (command: string): unknown =>
    execFileSync('openssl', command.split(' '), { cwd: keys.path, stdio: 'ignore' });
  openssl('req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout authority.key -out authority.pem');
  openssl('req -newkey rsa:2048 -nodes -subj /CN=elsewhere -keyout own.key -out own.csr');
  openssl('x509 -req -in own.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -out own.pem');
  const tls = {
    tls: true,
    tlsCacert: key('authority.pem'),
    tlsCert: key('own.pem'),
    tlsKey: key('own.key'),
    tlsNoCnVerify: true,
  };

  await using dir = await scratch();
  await using counter = await Counter.start(dir.path);
  const noSuchList = { ...tls, tlsCacrl: key('missing.crl') };
  for (const ours of [{}, noSuchList, tls]) {
    await using memory = await scratch();
    await using rest = await scratch();
    await using server = await CriuClient.start({ criuPath });
    const { pid, port } = await server.pageServerChild({
      imagesDir: memory.path,
      pageServer: { address: '127.0.0.1', port: await freePort() },
      logFile: 'server.log',
      logLevel: 4,
      ...tls,
    });
    await using dumper = await CriuClient.start({ criuPath });
    const dumped = dumper.dump({
      pid: counter.pid,
      imagesDir: rest.path,
      pageServer: { address: '127.0.0.1', port },
      ...quiet,
      ...ours,
    });
    if (ours !== tls) {
      const error = await failure(dumped);
      // CRIU 4.1.1 says what it misses and crashes.
      if (ours === noSuchList) expect(error.message).toContain('missing.crl');
      else expect(error.code).toBe('CRIU_REQUEST_FAILED');
      expect(await counter.advances()).toBe(true);
      continue;
    }
    await dumped;
    expect(await server.waitPid(pid)).toEqual({ exitCode: 0 });
    expect((await readdir(memory.path)).filter((name) => name.startsWith('pages-')).length).toBeGreaterThan(0);
  }
});

test('a page server that is a daemon outlives its session, and is told where it listens', async () => {
  await using dir = await scratch();
  const client = await CriuClient.start({ criuPath });
  const { port } = await client.pageServer({
    imagesDir: dir.path,
    pageServer: { address: '127.0.0.1', port: await freePort() },
  });
  await client.close();
  const pid = listenerOn(port);
  expect(readFileSync(`/proc/${pid}/comm`, 'latin1')).toBe('criu\n');
  try {
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.destroy();
    // Its one client is gone.
    await until(() => !existsSync(`/proc/${pid}`), 'the page server has ended');
  } finally {
    if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
  }
});

/** proc(5), /proc/net/tcp: the process that listens on a port of 127.0.0.1, by its socket's inode. */
function listenerOn(port: number): number {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const inode = readFileSync('/proc/net/tcp', 'latin1')
    .split('\n')
    .map((line) => line.trim().split(/ +/))
    .find((fields) => fields[1] === local && fields[3] === '0A')?.[9];
  const holds = (pid: number): boolean => {
    try {
      return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`);
    } catch {
      return false; // it has ended, or closed it
    }
  };
  return (
    readdirSync('/proc')
      .map(Number)
      .find((pid) => pid > 0 && holds(pid)) ?? 0
  );
}

test('a page server that is a child ends with its session, also when nobody has come and while it is waited for', async () => {
  await using dir = await scratch();
  for (const waiting of [false, true]) {
    const client = await CriuClient.start({ criuPath });
    const { pid } = await client.pageServerChild({
      imagesDir: dir.path,
      pageServer: { address: '127.0.0.1', port: await freePort() },
    });
    // CRIU may tell of the end before it hears of ours.
    const waited = waiting
      ? client.waitPid(pid).then(
          ({ exitSignal }) => exitSignal,
          ({ code }: CriuError) => code,
        )
      : undefined;
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    await client.close();
    await until(() => !existsSync(`/proc/${pid}`), 'the page server has ended and init has reaped it');
    expect(waiting ? ['CRIU_ABORTED', 'SIGKILL'] : [undefined]).toContain(await waited);
  }
});

test('what is refused before CRIU is asked leaves the session as it was', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using client = await CriuClient.start({ criuPath });
  const dump = { pid: counter.pid, imagesDir: work.path, ...quiet };
  const file = openSync(join(dir.path, 'file'), 'w');
  for (const [wrong, option] of [
    [{ ghostLimit: -1 }, 'ghostLimit'],
    [{ imagesDir: '/nonexistent' }, 'imagesDir'],
    [{ imagesDir: file }, 'imagesDir'],
    [{ workDir: 99_999 }, 'workDir'],
    [{ pageServer: { port: 27185 } }, 'pageServer'],
    [{ pid: counter.pid + 2 ** 32 }, 'pid'],
    [{ pid: -1 }, 'pid'],
  ] as const) {
    const error = await failure(client.dump({ ...dump, ...wrong }));
    expect([error.code, error.facts.option]).toEqual(['BAD_OPTION', option]);
  }
  closeSync(file);
  expect((await failure(client.restore({ imagesDir: work.path, orphanPtsMaster: true }))).facts.option).toBe(
    'orphanPtsMaster',
  );
  expect((await client.version()).major).toBeGreaterThan(3);
  await client.dump(dump);
  expect(await counter.advances()).toBe(true);
});

test('images that have another parent already are refused', async () => {
  await using dir = await scratch();
  await using counter = await Counter.start(dir.path);
  const images = join(dir.path, 'images');
  for (const name of ['images', '1', '2']) mkdirSync(join(dir.path, name));
  symlinkSync('../1', join(images, 'parent'));
  const dump = { pid: counter.pid, imagesDir: images, ...quiet };
  await using client = await CriuClient.start({ criuPath });
  const error = await failure(client.dump({ ...dump, parentImg: '../2' }));
  expect([error.code, error.facts.option]).toEqual(['BAD_OPTION', 'parentImg']);
  expect(error.message).toContain(`${images} has the parent ../1`);
  // The same is left to CRIU, which finds no images there: some take that for no parent.
  const code = await client.dump({ ...dump, parentImg: '../1' }).then(
    () => 'dumped',
    (error: unknown) => (error as CriuError).code,
  );
  expect(['dumped', 'CRIU_REQUEST_FAILED']).toContain(code);
});

test('waiting for a process that is no child of CRIU is refused', async () => {
  await using client = await CriuClient.start({ criuPath });
  expect((await failure(client.waitPid(process.pid))).facts.request).toBe('WAIT_PID');
});

test('a pre-dump on a kernel that does not track memory is refused before the tree is touched', async ({ skip }) => {
  if (memTrack) skip('needs a kernel without soft-dirty tracking');
  await using dir = await scratch();
  await using counter = await Counter.start(dir.path);
  await using client = await CriuClient.start({ criuPath });
  for (const refused of [client.preDump.bind(client), client.singlePreDump.bind(client)]) {
    const error = await failure(refused({ pid: counter.pid, imagesDir: dir.path }));
    expect(error.code).toBe('CRIU_FEATURE_MISSING');
    expect(error.remedy).toContain('CONFIG_MEM_SOFT_DIRTY');
  }
  expect(await readdir(dir.path)).not.toContain('criu.log');
  expect((await client.version()).major).toBeGreaterThan(2);
});

test('a single pre-dump writes memory and lets the tree run on', async ({ skip }) => {
  if (!memTrack) skip('needs a kernel that tracks memory: npm run test:kernels');
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using client = await CriuClient.start({ criuPath });
  const scripts: string[] = [];
  await client.singlePreDump(
    { pid: counter.pid, imagesDir: work.path, logFile: 'pre.log', trackMem: true },
    { onNotify: ({ script }) => void scripts.push(script) },
  );
  expect((await readdir(work.path)).filter((name) => name.startsWith('pages-')).length).toBeGreaterThan(0);
  expect(scripts).toEqual([]);
  expect(await counter.advances()).toBe(true);
  expect((await failure(client.version())).code).toBe('CRIU_SESSION_ENDED');
});

test('single pre-dumps rest on each other, and the dump on them', async ({ skip }) => {
  if (!memTrack) skip('needs a kernel that tracks memory: npm run test:kernels');
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  const written: number[] = [];
  for (const round of [1, 2, 3]) {
    const imagesDir = join(work.path, `${round}`);
    await mkdir(imagesDir);
    await using client = await CriuClient.start({ criuPath });
    const options = {
      pid: counter.pid,
      imagesDir,
      networkLock: 'skip',
      trackMem: true,
      ...(round > 1 ? { parentImg: `../${round - 1}` } : {}),
    } as const;
    await (round < 3 ? client.singlePreDump(options) : client.dump(options));
    written.push((await readDumpStats(imagesDir)).pagesWritten);
  }
  expect(written[1]).toBeLessThan(written[0] ?? 0);
  await counter.gone();
  await using restorer = await CriuClient.start({ criuPath });
  await restorer.restore({ imagesDir: join(work.path, '3'), logFile: 'restore.log' });
  expect(await counter.advances()).toBe(true);
});

test('a loop of pre-dumps takes nothing but another or the dump, and the dump rests on them', async ({ skip }) => {
  if (!memTrack) skip('needs a kernel that tracks memory: npm run test:kernels');
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  await using client = await CriuClient.start({ criuPath });
  for (const round of [1, 2]) {
    await mkdir(join(work.path, `${round}`));
    await client.preDump({
      pid: counter.pid,
      imagesDir: join(work.path, `${round}`),
      trackMem: true,
      ...(round > 1 ? { parentImg: `../${round - 1}` } : {}),
    });
    expect(await counter.advances()).toBe(true);
  }
  const wrong = await failure(client.featureCheck({ memTrack: true }));
  expect(wrong.code).toBe('CRIU_PRE_DUMPING');
  await mkdir(join(work.path, '3'));
  await client.dump({
    pid: counter.pid,
    imagesDir: join(work.path, '3'),
    networkLock: 'skip',
    trackMem: true,
    parentImg: '../2',
  });
  await client.close();
  await counter.gone();
  await using restorer = await CriuClient.start({ criuPath });
  await restorer.restore({ imagesDir: join(work.path, '3'), logFile: 'restore.log' });
  expect(await counter.advances()).toBe(true);
});

describe('a `criu service`', () => {
  async function withService(
    body: (client: () => Promise<CriuServiceClient & AsyncDisposable>, dir: string) => Promise<void>,
  ): Promise<void> {
    await using dir = await scratch();
    const socketPath = join(dir.path, 'socket');
    const service: ChildProcess = spawn(
      criuPath,
      ['service', '--address', socketPath, '--work-dir', dir.path, '-o', 'service.log'],
      { stdio: 'ignore' },
    );
    try {
      await until(() => existsSync(socketPath), 'the service listens');
      const client = async (): Promise<CriuServiceClient> => {
        for (;;) {
          try {
            return await CriuClient.connect({ socketPath });
          } catch (error) {
            // bind() makes the file, listen() comes after it.
            if ((error as { cause?: { code?: string } }).cause?.code !== 'ECONNREFUSED') throw error;
            await new Promise((resolve) => setTimeout(resolve, 10));
          }
        }
      };
      await body(client, dir.path);
    } finally {
      service.kill('SIGKILL');
      await once(service, 'exit');
    }
  }

  test('serves clients side by side: versions, features, a dump with its notifications and a restore', async () => {
    await withService(async (connectTo, dir) => {
      await using counter = await Counter.start(dir);
      await using work = await scratch();
      await using first = await connectTo();
      await using second = await connectTo();
      const [a, b] = await Promise.all([first.version(), second.version()]);
      expect(a).toEqual(b);
      expect(Object.keys(await second.featureCheck({ lazyPages: true }))).toEqual(['lazyPages']);
      const scripts: string[] = [];
      await first.dump(
        { pid: counter.pid, imagesDir: work.path, networkLock: 'skip' },
        { onNotify: ({ script }) => void scripts.push(script) },
      );
      expect(scripts).toContain('post-dump');
      await counter.gone();
      await using restorer = await connectTo();
      expect(await restorer.restore({ imagesDir: work.path, logFile: 'restore.log' })).toEqual({ pid: counter.pid });
      expect(await counter.advances()).toBe(true);
    });
  });

  test('that a client leaves in the middle lets the tree run on', async () => {
    await withService(async (connectTo, dir) => {
      await using counter = await Counter.start(dir);
      await using work = await scratch();
      await using client = await connectTo();
      const controller = new AbortController();
      const dump = client.dump(
        { pid: counter.pid, imagesDir: work.path, ...quiet },
        {
          signal: controller.signal,
          onNotify: ({ script }) => (script === 'post-dump' ? controller.abort(new Error('enough')) : undefined),
        },
      );
      expect((await failure(dump)).code).toBe('CRIU_ABORTED');
      expect(await counter.advances(3000)).toBe(true);
    });
  });

  test('that is not there, and descriptors that it cannot inherit, are refused', async () => {
    const error = await failure(CriuClient.connect({ socketPath: '/nonexistent/socket' }));
    expect(error.code).toBe('CRIU_NOT_FOUND');
    expect(error.cause).toMatchObject({ code: 'ENOENT', syscall: 'connect' });
    expect((await failure(CriuClient.connect({ socketPath: `/${'x'.repeat(200)}` }))).cause).toMatchObject({
      code: 'ENAMETOOLONG',
    });
    await withService(async (connectTo, dir) => {
      await using client = await connectTo();
      expect((await failure(client.restore({ imagesDir: dir, inheritFd: [{ key: 'a', fd: 0 }] }))).facts.option).toBe(
        'inheritFd',
      );
    });
  });
});

test('a client takes over a socket that is connected to a CRIU already', async () => {
  const [ours, theirs] = native().socketpairSeqpacket();
  const criu = Child.start({ path: criuPath, args: ['swrk', '3'], fds: [undefined, undefined, undefined, theirs] });
  native().close(theirs);
  const client = await CriuClient.connect({ fd: ours });
  expect((await client.version()).major).toBeGreaterThan(3);
  await client.close();
  await criu.ended; // for it has heard that the client is gone
  for (const options of [{}, { fd: 0, socketPath: '/run/criu' }, { fd: -1 }, { fd: 1.5 }, { fd: 99_999 }])
    expect((await failure(CriuClient.connect(options))).code).toBe('BAD_OPTION');
});

test('a socket that a worker thread has taken over is closed with it', async () => {
  const [ours, theirs] = native().socketpairSeqpacket();
  const peer = new PacketSocket(ours, 1 << 20);
  const worker = new Worker(new URL('../../fixtures/taken-over.mjs', import.meta.url), { workerData: { fd: theirs } });
  expect((await peer.receive())?.data.length).toBeGreaterThan(0);
  await worker.terminate();
  expect(await peer.receive({ signal: AbortSignal.timeout(5000) })).toBeUndefined();
  peer.close();
});

describe("CRIU's log", () => {
  test('comes line by line while CRIU works, and whole', async () => {
    await using dir = await scratch();
    await using work = await scratch();
    await using counter = await Counter.start(dir.path);
    await writeFile(join(work.path, 'dump.log'), '(00.1) from an earlier dump\n');
    await using client = await CriuClient.start({ criuPath });
    const lines: LogLine[] = [];
    let atPostDump = 0;
    await client.dump(
      { pid: counter.pid, imagesDir: work.path, logFile: 'dump.log', logLevel: 4, ...quiet },
      {
        onLog: (line) => void lines.push(line),
        onNotify: async ({ script }) => {
          if (script !== 'post-dump') return;
          await new Promise((resolve) => setTimeout(resolve, 100));
          atPostDump = lines.length;
        },
      },
    );
    await client.close();
    const file = readFileSync(join(work.path, 'dump.log'), 'utf8').trimEnd().split('\n').map(parseLogLine);
    expect(atPostDump).toBeGreaterThan(100);
    expect(lines.length).toBeGreaterThan(atPostDump);
    expect(lines).toEqual(file.slice(0, lines.length));
    expect(lines.at(-1)?.text).toContain('Dumping finished successfully');
  });

  test('ends with the work when CRIU wrote none, and a listener that throws is the error', async () => {
    await using dir = await scratch();
    const stop = new AbortController();
    const lines = await followLog(join(dir.path, 'never'), { signal: stop.signal });
    setTimeout(() => stop.abort(), 50);
    for await (const line of lines) expect.unreachable(line.text);
    await using counter = await Counter.start(dir.path);
    await using client = await CriuClient.start({ criuPath });
    const mine = new Error('mine');
    const dump = client.dump(
      { pid: counter.pid, imagesDir: dir.path, logLevel: 4, ...quiet },
      {
        onLog: () => {
          throw mine;
        },
      },
    );
    await expect(dump).rejects.toBe(mine);
    expect(await counter.advances()).toBe(true);
  });
});

describe('the progress of a dump', () => {
  test('is what its images hold, beside what the tree has; images of an earlier dump do not count', async () => {
    await using dir = await scratch();
    await using work = await scratch();
    await using counter = await Counter.start(dir.path);
    await writeFile(join(work.path, 'pages-99.img'), Buffer.alloc(100 << 20));
    await using client = await CriuClient.start({ criuPath });
    let last = { writtenBytes: 0, expectedBytes: 0 };
    let images = 0;
    await client.dump(
      { pid: counter.pid, imagesDir: work.path, ...quiet },
      {
        onProgress: (progress) => (last = progress),
        onNotify: async ({ script }) => {
          if (script !== 'post-dump') return;
          // Complete now, and CRIU waits for us as long as we like.
          const names = (await readdir(work.path)).filter((name) => /^pages-\d\.img$/.test(name));
          for (const name of names) images += (await stat(join(work.path, name))).size;
          await until(() => last.writtenBytes === images, 'all that was written is told');
        },
      },
    );
    expect(images).toBeGreaterThan(32 * 1024);
    expect(last.expectedBytes).toBeGreaterThanOrEqual(images);
    expect(last.expectedBytes).toBeLessThan(10 << 20);
  });

  test('is told to a listener whose error cancels the request, and is its error', async () => {
    await using dir = await scratch();
    await using work = await scratch();
    await using counter = await Counter.start(dir.path);
    await using client = await CriuClient.start({ criuPath });
    const mine = new Error('mine');
    let told = false;
    const onProgress = (): never => {
      told = true;
      throw mine;
    };
    const onNotify = ({ script }: { script: string }): Promise<void> | undefined =>
      script === 'post-dump' ? until(() => told, 'something is told') : undefined;
    // Left alone the dump would end the tree.
    const dump = client.dump({ pid: counter.pid, imagesDir: work.path, networkLock: 'skip' }, { onProgress, onNotify });
    await expect(dump).rejects.toBe(mine);
    expect(await counter.advances()).toBe(true);
  });
});
