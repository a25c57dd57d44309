/**
 * Options that no other test needs, each sent to a real CRIU: what they do, where it can be seen, or that CRIU took or
 * refused them.
 */
import { linkSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, type TestContext } from 'vitest';
import {
  CriuClient,
  findCriu,
  type CriuBinary,
  type CriuOptions,
  type CriuProblem,
  type CriuRequestOptions,
} from '../../../src/criu/index.js';
import { Counter, failure, scratch, type Scratch } from '../../fixtures/criu.js';
import { OddTask, type OddKind } from '../../fixtures/odd-task.js';
import { ownMountsWith } from '../../fixtures/own-mounts.js';

let criu: CriuBinary;
beforeAll(async () => {
  criu = await findCriu();
});

interface Needs {
  /** The first CRIU that knows the option, as a version number. */
  since?: number;
}
function skipBefore(since: number | undefined, { skip }: TestContext): void {
  if (since !== undefined && criu.versionNumber < since)
    skip(`needs CRIU ${Math.floor(since / 10000)}.${Math.floor(since / 100) % 100}`);
}

async function dump(pid: number, options: CriuRequestOptions): Promise<void> {
  await using client = await CriuClient.start({ criuPath: criu.path });
  await client.dump({ pid, networkLock: 'skip', leaveRunning: true, ...options });
}

async function restore(options: CriuRequestOptions): Promise<void> {
  await using client = await CriuClient.start({ criuPath: criu.path });
  await client.restore({ logFile: 'restore.log', ...options });
}

describe('what CRIU refuses to dump it dumps with', () => {
  interface Case extends Needs {
    option: string;
    kind: OddKind;
    problem: CriuProblem;
    options: (task: OddTask, dir: string) => CriuOptions;
    start?: (dir: string) => Parameters<typeof OddTask.start>[2];
  }
  /**
   * A file system that CRIU does not know is mounted in the task's own namespace, and nothing is open from outside of
   * that.
   */
  const withRamfs = (dir: string): Parameters<typeof OddTask.start>[2] => ({
    prefix: ownMountsWith(
      join(dir, 'streams'),
      `mkdir ${join(dir, 'ramfs')}; mount -t ramfs none ${join(dir, 'ramfs')}`,
    ),
  });
  test.for<Case>([
    { option: 'fileLocks', kind: 'lock', problem: 'file-locks', options: () => ({ fileLocks: true }) },
    { option: 'ghostLimit', kind: 'deleted', problem: 'ghost-too-big', options: () => ({ ghostLimit: 8 << 20 }) },
    {
      option: 'skipMnt',
      kind: 'plain',
      problem: 'mount-unsupported',
      options: (_, dir) => ({ skipMnt: [join(dir, 'ramfs')] }),
      start: withRamfs,
    },
    {
      option: 'enableFs',
      kind: 'plain',
      problem: 'mount-unsupported',
      options: () => ({ enableFs: ['ramfs'] }),
      start: withRamfs,
    },
    {
      option: 'shellJob',
      kind: 'plain',
      problem: 'shell-job',
      options: () => ({ shellJob: true }),
      start: () => ({ job: true }),
    },
    {
      option: 'unixSkIno',
      kind: 'plain',
      problem: 'unix-external',
      options: ({ pid }) => ({ extUnixSk: true, unixSkIno: [statSync(`/proc/${pid}/fd/1`).ino] }),
      start: () => ({ stdout: 'unix' }),
    },
    // An older one cannot dump a TCP socket on Linux 6.16.
    {
      option: 'tcpSkipInFlight',
      kind: 'tcp-in-flight',
      problem: 'tcp-in-flight',
      options: () => ({ tcpSkipInFlight: true, tcpClose: true }),
      since: 40200,
    },
    { option: 'tcpClose', kind: 'tcp', problem: 'tcp-established', options: () => ({ tcpClose: true }), since: 40200 },
  ])('$option', async ({ kind, problem, options, start, since }, context) => {
    skipBefore(since, context);
    await using dir = await scratch();
    await using work = await scratch();
    await using task = await OddTask.start(dir.path, kind, start?.(dir.path));
    const error = await failure(dump(task.pid, { imagesDir: work.path }));
    expect(error.facts.problem, error.message).toBe(problem);
    await dump(task.pid, { imagesDir: work.path, ...options(task, dir.path) });
  });
});

/** In CRIU's own YAML. */
const oddProperty = '"cpu":\n - "strategy": "replace"\n - "properties": ["odd.one"]\n';

describe('a dump', () => {
  let dir: Scratch;
  let counter: Counter;
  beforeAll(async () => {
    dir = await scratch();
    counter = await Counter.start(dir.path, { ownNetwork: true });
  });
  afterAll(async () => {
    await counter[Symbol.asyncDispose]();
    await dir[Symbol.asyncDispose]();
  });
  const dumped = async (options: CriuOptions): Promise<{ log: string; images: string[] }> => {
    await using work = await scratch();
    await dump(counter.pid, { imagesDir: work.path, logLevel: 4, ...options });
    return { log: readFileSync(join(work.path, 'criu.log'), 'utf8'), images: readdirSync(work.path) };
  };

  test.for<{ options: CriuOptions; log: string }>([
    // A mount on which nothing else is mounted.
    { options: { skipMnt: ['/dev/pts'] }, log: '\tskip devpts @ ./dev/pts' },
    { options: { weakSysctls: true }, log: 'Will skip non-existent sysctls on restore' },
    { options: { tcpClose: true }, log: 'Will drop all TCP connections on restore' },
    { options: { tcpSkipInFlight: true }, log: 'Will skip in-flight TCP connections' },
    { options: { cgroupDumpController: ['cpu'] }, log: 'cg-prop: Mark controller "cpu" to dump' },
    { options: { cgroupProps: oddProperty }, log: 'odd.one' },
  ])('with $options logs it', async ({ options, log }) => {
    expect((await dumped({})).log).not.toContain(log);
    expect((await dumped(options)).log).toContain(log);
  });

  test('writes down the processor for cpuCap, and no network for emptyNs', async () => {
    const without = await dumped({});
    expect(without.images).not.toContain('cpuinfo.img');
    expect((await dumped({ cpuCap: ['fpu'] })).images).toContain('cpuinfo.img');
    const network = (images: string[]): string[] => images.filter((name) => /^(?:netdev|ifaddr|route)/.test(name));
    expect(network(without.images)).not.toEqual([]);
    expect(network((await dumped({ emptyNs: ['net'] })).images)).toEqual([]);
  });

  interface Refused extends Needs {
    options: CriuOptions;
    says: string;
  }
  test.for<Refused>([
    { options: { mntnsCompatMode: true }, says: 'mntns-compat-mode is only valid on restore' },
    { options: { rstSibling: true }, says: 'restore-sibling only makes sense with' },
    { options: { cgroupProps: 'nonsense' }, says: 'cg-prop: Expecting controller name' },
    { options: { cgroupPropsFile: '/nonexistent' }, says: "cg-prop: Can't open file /nonexistent" },
    { options: { lsmProfile: 'nonsense:x' }, says: 'unknown lsm nonsense' },
    // Before it has a log.
    { options: { statusFd: 987_654 }, says: 'EBADRQC' },
    { options: { joinNs: [{ ns: 'nonsense', nsFile: '1' }] }, says: 'EBADRQC' },
    { options: { stream: true }, says: 'EBADRQC', since: 40300 },
    { options: { pluginOptions: ['nonsense'] }, says: 'EBADRQC', since: 40300 },
    { options: { compressAcceleration: 0 }, says: 'Invalid compress_acceleration value 0', since: 40300 },
    { options: { compressBlockSize: 5 }, says: 'Invalid compress_block_size value 5', since: 40300 },
    { options: { decompressThreads: 2000 }, says: 'Invalid decompress_threads value 2000', since: 40300 },
    {
      options: { compress: 'off', compressAcceleration: 2 },
      says: 'compress=off conflicts with compression tuning options',
      since: 40300,
    },
  ])('with $options is refused: $says', async ({ options, says, since }, context) => {
    skipBefore(since, context);
    const error = await failure(dumped(options));
    expect(error.code).toBe('CRIU_REQUEST_FAILED');
    expect(error.message).toContain(says);
    expect(await counter.advances()).toBe(true);
  });

  // Nothing of these shows in a tree that has nothing to do with them.
  const taken: (Needs & { options: CriuOptions })[] = [
    { options: { timeoutSeconds: 30 } },
    { options: { autoDedup: true } },
    { options: { preDumpMode: 'read' } },
    { options: { forceIrmap: true, irmapScanPaths: ['/tmp'] } },
    { options: { evasiveDevices: true } },
    { options: { autoExtMnt: true, extSharing: true, extMasters: true } },
    { options: { lsmMountContext: 'system_u:object_r:tmp_t:s0' } },
    { options: { veths: [{ ifIn: 'eth0', ifOut: 'veth0' }] } },
    { options: { extMnt: [{ key: '/nonexistent', val: 'key' }] } },
    { options: { cgRoot: [{ path: '/' }, { controller: 'cpu', path: '/' }] } },
    { options: { cgroupYard: '/sys/fs/cgroup' } },
    { options: { rawOptions: { 9999: 'a newer one', 10000: true } } },
    { options: { displayStats: true } },
    {
      options: {
        imageIoMode: 'writeback',
        compress: 'off',
        decompressThreads: 2,
        pluginOptions: ['some_plugin.name=value'],
      },
      since: 40300,
    },
  ];
  test.for(taken)('with $options succeeds', async ({ options, since }, context) => {
    skipBefore(since, context);
    expect((await dumped(options)).log).toContain('Dumping finished successfully');
  });

  test('compresses memory where CRIU can, and is refused where it cannot', async (context) => {
    skipBefore(40300, context);
    await using client = await CriuClient.start({ criuPath: criu.path });
    const { memCompression } = await client.featureCheck({ memCompression: true });
    const compressed = dumped({ compress: 'lz4', compressAcceleration: 2, compressBlockSize: 65_536 });
    if (memCompression === true) await compressed;
    else expect((await failure(compressed)).message).toContain('requires CRIU built with LZ4 support');
  });

  test('leaves the tree stopped for leaveStopped', async () => {
    await dumped({ leaveRunning: false, leaveStopped: true });
    expect(counter.alive().map((pid) => readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]?.[0])).toEqual([
      'T',
      'T',
    ]);
    for (const pid of counter.alive()) process.kill(pid, 'SIGCONT');
    expect(await counter.advances()).toBe(true);
  });

  test('logs to where a configuration file says, and to its stderr', async () => {
    await using work = await scratch();
    writeFileSync(join(work.path, 'conf'), `log-file other.log\n`);
    await dump(counter.pid, { imagesDir: work.path, logLevel: 4, configFile: join(work.path, 'conf') });
    expect(readFileSync(join(work.path, 'other.log'), 'utf8')).toContain('Dumping finished successfully');
    expect(readdirSync(work.path)).not.toContain('criu.log');
    await using client = await CriuClient.start({ criuPath: criu.path });
    await client.dump({
      pid: counter.pid,
      imagesDir: work.path,
      networkLock: 'skip',
      leaveRunning: true,
      logLevel: 4,
      logToStderr: true,
    });
    await client.close();
    expect((await client.ended).stderr).toContain('Dumping finished successfully');
    expect(readdirSync(work.path)).not.toContain('criu.log');
  });

  test('without privileges keeps what it knows of the kernel where the user may write', async () => {
    for (const unprivileged of [false, true]) {
      await using work = await scratch();
      await using user = await scratch();
      await using client = await CriuClient.start({
        criuPath: criu.path,
        env: { ...process.env, XDG_RUNTIME_DIR: user.path },
      });
      await client.dump({
        pid: counter.pid,
        imagesDir: work.path,
        networkLock: 'skip',
        leaveRunning: true,
        unprivileged,
      });
      // It stays a temporary one where that is no tmpfs.
      expect(readdirSync(user.path).map((name) => name.replace('.tmp', ''))).toEqual(unprivileged ? ['criu.kdat'] : []);
    }
  });

  test('reads properties of cgroups from a file', async () => {
    await using work = await scratch();
    const cgroupPropsFile = join(work.path, 'props');
    writeFileSync(cgroupPropsFile, oddProperty);
    expect((await dumped({ cgroupPropsFile })).log).toContain('odd.one');
  });
});

test('a file that was deleted and has another name is linked again for linkRemap', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  linkSync(counter.files[0], join(dir.path, 'other'));
  rmSync(counter.files[0]);
  expect((await failure(dump(counter.pid, { imagesDir: work.path }))).facts.problem).toBe('deleted-file');
  await dump(counter.pid, { imagesDir: work.path, linkRemap: true, leaveRunning: false });
  expect(readdirSync(dir.path).filter((name) => name.startsWith('link_remap.'))).not.toEqual([]);
});

describe('a restore', () => {
  test('takes a file with other permissions for skipFileRwxCheck', async () => {
    await using dir = await scratch();
    await using work = await scratch();
    await using counter = await Counter.start(dir.path);
    await dump(counter.pid, { imagesDir: work.path, leaveRunning: false });
    await counter.gone();
    await chmod(counter.files[0], 0o644);
    const error = await failure(restore({ imagesDir: work.path }));
    expect(error.message).toContain('has bad mode');
    await counter.gone();
    await restore({ imagesDir: work.path, skipFileRwxCheck: true });
    expect(await counter.advances()).toBe(true);
  });

  test('gives up the memory in the images for autoDedup, and takes the options that change nothing here', async () => {
    await using dir = await scratch();
    await using work = await scratch();
    await using counter = await Counter.start(dir.path);
    await dump(counter.pid, { imagesDir: work.path, leaveRunning: false });
    await counter.gone();
    const held = (): number =>
      readdirSync(work.path)
        .filter((name) => name.startsWith('pages-'))
        .reduce((sum, name) => sum + statSync(join(work.path, name)).blocks, 0);
    const before = held();
    const none = {
      mntnsCompatMode: true,
      weakSysctls: true,
      lsmProfile: 'none:',
      lsmMountContext: 'x',
      cgRoot: [{ path: '/' }],
      evasiveDevices: true,
    } as const;
    const newer =
      criu.versionNumber < 40300
        ? {}
        : ({ decompressThreads: 2, imageIoMode: 'writeback', pluginOptions: ['some_plugin.name=value'] } as const);
    await restore({ imagesDir: work.path, autoDedup: true, ...none, ...newer });
    expect(held()).toBeLessThan(before / 2);
    expect(await counter.advances()).toBe(true);
  });
});
