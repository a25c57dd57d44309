import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { release } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { diagnose } from '../../../src/index.js';
import {
  CriuClient,
  CriuError,
  findCriu,
  type CriuBinary,
  type CriuClientOptions,
  type CriuDumpRequest,
  type CriuProblem,
  type CriuRestoreOptions,
} from '../../../src/criu/index.js';
import { freezerVersions, makeTestCgroup } from '../../fixtures/cgroup.js';
import { Counter, scratch, until, type Scratch } from '../../fixtures/criu.js';
import { OddTask, type OddKind } from '../../fixtures/odd-task.js';
import { ownMounts, ownMountsWith } from '../../fixtures/own-mounts.js';

let criu: CriuBinary;
beforeAll(async () => {
  criu = await findCriu();
});
const scratches: Scratch[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const { path } of scratches.splice(0)) await rm(path, { recursive: true, force: true });
});

async function imagesDir(): Promise<string> {
  const dir = await scratch();
  scratches.push(dir);
  return dir.path;
}

async function failure(promise: Promise<unknown>): Promise<CriuError> {
  const error: unknown = await promise.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(CriuError);
  return error as CriuError;
}

async function dump(
  pid: number,
  options: Partial<CriuDumpRequest> = {},
  start: Partial<CriuClientOptions> = {},
): Promise<void> {
  await using client = await CriuClient.start({ criuPath: criu.path, ...start });
  await client.dump({ pid, imagesDir: await imagesDir(), leaveRunning: true, networkLock: 'skip', ...options });
}

/** Of what a dump left, once its tasks are gone. */
async function refusedRestore(images: string, options: CriuRestoreOptions = {}): Promise<CriuError> {
  await using client = await CriuClient.start({ criuPath: criu.path });
  return await failure(client.restore({ imagesDir: images, logFile: 'restore.log', ...options }));
}

const gone = (pid: number): Promise<void> => until(() => !existsSync(`/proc/${pid}`), `${pid} is reaped`);

/** Linux 6.16 refuses what CRIU before 4.2 asks of every internet socket. */
const socketsAreTooNew = (): boolean => criu.versionNumber < 40200 && newSocketOptions();
const needsSockets = 'needs CRIU 4.2, which can dump a socket on Linux 6.16';

interface Case {
  kind: OddKind;
  problem: CriuProblem;
  remedy: string;
  options?: Partial<CriuDumpRequest>;
  start?: Parameters<typeof OddTask.start>[2];
}

test.each<Case>([
  { kind: 'io_uring', problem: 'io-uring', remedy: 'io_uring' },
  { kind: 'deleted', problem: 'ghost-too-big', remedy: 'ghostLimit' },
  { kind: 'lock', problem: 'file-locks', remedy: 'fileLocks' },
  { kind: 'nested-pid', problem: 'nested-namespace', remedy: 'root' },
  { kind: 'ramfs', problem: 'mount-unsupported', remedy: 'skipMnt', start: { prefix: ownMounts } },
  { kind: 'traced', problem: 'traced', remedy: 'TracerPid' },
  { kind: 'shm', problem: 'sysv-shm', remedy: 'IPC namespace' },
  { kind: 'userfaultfd', problem: 'device-or-unknown-file', remedy: 'external' },
  { kind: 'plain', problem: 'shell-job', remedy: 'shellJob', start: { job: true } },
  {
    kind: 'plain',
    problem: 'session-outside-namespace',
    remedy: 'setsid',
    start: { job: true, prefix: ['unshare', '--pid', '--fork'] },
  },
  { kind: 'plain', problem: 'unix-external', remedy: 'extUnixSk', start: { stdout: 'unix' } },
  {
    kind: 'plain',
    problem: 'mount-of-another-namespace',
    remedy: 'external',
    start: { prefix: ownMounts, stdout: 'file' },
  },
  { kind: 'tcp-in-flight', problem: 'tcp-in-flight', remedy: 'tcpSkipInFlight' },
  { kind: 'netlink', problem: 'netlink-unread', remedy: 'retries' },
  { kind: 'corked', problem: 'udp-corked', remedy: 'retries' },
  { kind: 'plain', problem: 'freezer-missing', remedy: 'cgroup.freeze', options: { freezeCgroup: '/tmp' } },
  { kind: 'plain', problem: 'cgroup-props', remedy: 'cgroupPropsFile', options: { cgroupPropsFile: 'props.yaml' } },
])('a task that is $kind is told $problem and what to do', async ({ kind, problem, remedy, options, start }) => {
  await using task = await OddTask.start(await imagesDir(), kind, start);
  const error = await failure(dump(task.pid, options));
  expect(error.code, error.message).toBe('CRIU_REQUEST_FAILED');
  expect(error.facts.problem, error.message).toBe(problem);
  expect(error.remedy).toContain(remedy);
});

test('an established TCP connection is told so, or that this CRIU is too old for the kernel', async () => {
  await using task = await OddTask.start(await imagesDir(), 'tcp');
  const error = await failure(dump(task.pid));
  expect(error.facts.problem).toBe(socketsAreTooNew() ? 'kernel-too-new' : 'tcp-established');
});

test('an MPTCP socket is told so', async ({ skip }) => {
  if (!existsSync('/proc/sys/net/mptcp')) skip('needs a kernel with MPTCP');
  await using task = await OddTask.start(await imagesDir(), 'mptcp');
  const error = await failure(dump(task.pid));
  expect(error.facts.problem, error.message).toBe('socket-protocol');
  expect(error.remedy).toContain('GODEBUG');
});

test('a watch on a directory that was removed is told so', async ({ skip }) => {
  const TMPFS_MAGIC = 0x01021994;
  if (!existsSync('/dev/shm') || statfsSync('/dev/shm').type !== TMPFS_MAGIC) skip('needs a tmpfs at /dev/shm');
  const dir = await mkdtemp('/dev/shm/stillframe-test-');
  scratches.push({ path: dir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) });
  await using task = await OddTask.start(dir, 'inotify');
  const error = await failure(dump(task.pid));
  expect(error.facts.problem, error.message).toBe('inotify');
  expect(error.remedy).toContain('irmapScanPaths');
});

test('images of a pre-dump that are not there are told so, in the words that CRIU has before its log', async () => {
  await using counter = await Counter.start(await imagesDir());
  const error = await failure(dump(counter.pid, { parentImg: '../nothing' }));
  expect(error.facts.problem, error.message).toBe('parent-images');
  expect(error.message).toContain('Invalid parent image directory provided');
  expect(error.remedy).toContain('parentImg');
});

describe("a configuration file that CRIU does not understand is told so, with the file's place", () => {
  let home: string;
  beforeEach(async () => {
    home = await imagesDir();
    await mkdir(join(home, '.criu'));
    await writeFile(join(home, '.criu/default.conf'), 'no-such-option\n');
  });
  const version = async (options: Partial<CriuClientOptions>): Promise<string> => {
    await using client = await CriuClient.start({ criuPath: criu.path, ...options });
    return (await client.version()).text;
  };

  test("the user's, which `defaultConfig: false` passes over", async () => {
    const env = { ...process.env, HOME: home };
    const error = await failure(version({ env }));
    expect(error).toMatchObject({ code: 'CRIU_DIED', facts: { problem: 'criu-config', exitCode: 1 } });
    expect(error.remedy).toContain('`configFile`');
    expect(await version({ env, defaultConfig: false })).toBe(criu.version);
  });

  test("the environment's, which it does not, by the search for a CRIU and the doctor too", async () => {
    const config = join(home, '.criu/default.conf');
    const error = await failure(version({ env: { ...process.env, CRIU_CONFIG_FILE: config }, defaultConfig: false }));
    expect(error.facts.problem, error.message).toBe('criu-config');
    const another = join(home, 'criu'); // one that worked is not asked again
    await symlink(criu.path, another);
    vi.stubEnv('CRIU_CONFIG_FILE', config);
    const none = await failure(findCriu({ criuPath: another }));
    expect(none).toMatchObject({ code: 'CRIU_UNUSABLE', facts: { problem: 'criu-config' } });
    expect(none.remedy).toContain('CRIU_CONFIG_FILE');
    const { findings } = await diagnose({ criuPath: another });
    expect(findings.find(({ subject }) => subject.startsWith('CRIU'))).toMatchObject({
      verdict: 'problem',
      remedy: none.remedy,
    });
  });

  test('that of `configFile`', async () => {
    await using counter = await Counter.start(await imagesDir());
    const error = await failure(dump(counter.pid, { configFile: join(home, '.criu/default.conf') }));
    expect(error).toMatchObject({ code: 'CRIU_REQUEST_FAILED', facts: { problem: 'criu-config' } });
    expect(await counter.advances()).toBe(true);
  });
});

test('a terminal whose master is outside the tree is told so, and on restore that CRIU has none', async () => {
  const images = await imagesDir();
  const script = spawn('script', ['-qec', 'exec sleep 1000', '/dev/null'], {
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
    detached: true,
  });
  const ended = once(script, 'exit');
  try {
    const inside = (): number => Number(readFileSync(`/proc/${script.pid}/task/${script.pid}/children`, 'utf8'));
    await until(
      () => inside() !== 0 && readFileSync(`/proc/${inside()}/comm`, 'utf8') === 'sleep\n',
      'script runs its command',
    );
    const pid = inside();
    const refused = await failure(dump(pid));
    expect(refused.facts.problem, refused.message).toBe('shell-job');
    expect(refused.remedy).toContain('orphanPtsMaster');
    await dump(pid, { imagesDir: images, shellJob: true, leaveRunning: false });
    await gone(pid);
    const error = await refusedRestore(images, { shellJob: true });
    expect(error.facts.problem, error.message).toBe('shell-job');
    expect(error.remedy).toContain('`terminal`');
    expect(error.remedy).not.toContain('shellJob');
  } finally {
    script.kill('SIGKILL');
    await ended;
  }
});

test('a port that is taken on restore is told so', async ({ skip }) => {
  if (socketsAreTooNew()) skip(needsSockets);
  const images = await imagesDir();
  await using task = await OddTask.start(images, 'listen');
  await dump(task.pid, { imagesDir: images, leaveRunning: false });
  await gone(task.pid);
  const holder = createServer().listen(Number(readFileSync(task.path, 'utf8')), '127.0.0.1');
  await once(holder, 'listening');
  try {
    const error = await refusedRestore(images);
    expect(error.facts.problem, error.message).toBe('address-taken');
    expect(error.remedy).toContain('port');
  } finally {
    holder.close();
    await once(holder, 'close');
  }
});

test('a dump with `tcpClose` that is restored without is told so', async ({ skip }) => {
  if (socketsAreTooNew()) skip(needsSockets);
  const images = await imagesDir();
  await using task = await OddTask.start(images, 'tcp');
  await dump(task.pid, { imagesDir: images, tcpClose: true, leaveRunning: false });
  await gone(task.pid);
  const error = await refusedRestore(images);
  expect(error.facts.problem, error.message).toBe('tcp-closed');
  expect(error.remedy).toContain('tcpClose');
});

test('a tmpfs without GNU tar is told so, and a mount namespace that is restored without `root`', async () => {
  const [images, inside, tmpfs] = [await imagesDir(), await imagesDir(), await imagesDir()];
  const withTmpfs = ownMountsWith(join(inside, 'streams'), `mount -t tmpfs none ${tmpfs}`);
  await using task = await OddTask.start(inside, 'plain', { prefix: withTmpfs });
  const error = await failure(dump(task.pid, {}, { env: { PATH: '/nonexistent' } }));
  expect(error.facts.problem, error.message).toBe('tmpfs-content');
  expect(error.remedy).toContain('GNU tar');
  await dump(task.pid, { imagesDir: images, leaveRunning: false });
  await gone(task.pid);
  for (const mntnsCompatMode of [false, true]) {
    const refused = await refusedRestore(images, { mntnsCompatMode });
    expect(refused.facts.problem, refused.message).toBe('root-missing');
    expect(refused.remedy).toContain('`root`');
    await gone(task.pid);
  }
});

test('a page server that nobody listens at is told so, and the tree runs on', async () => {
  await using counter = await Counter.start(await imagesDir());
  const error = await failure(dump(counter.pid, { pageServer: { address: '127.0.0.1', port: await closedPort() } }));
  expect(error.facts.problem, error.message).toBe('page-server');
  expect(error.remedy).toContain('pageServer');
  expect(await counter.advances()).toBe(true);
});

/** A port that was free a moment ago. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test.skipIf(existsSync('/sys/kernel/security/apparmor'))(
  'an AppArmor profile without AppArmor is told in the words of CRIU, not as a debugger',
  async () => {
    await using counter = await Counter.start(await imagesDir());
    const error = await failure(dump(counter.pid, { lsmProfile: 'apparmor:x' }));
    expect(error.facts.problem, error.message).toBeUndefined();
    expect(error.message).toContain('apparmor not supported');
    expect(await counter.advances()).toBe(true);
  },
);

test('a process that does not exist is told so, not as a debugger', async () => {
  const error = await failure(dump(2 ** 22 - 1));
  expect(error.facts).toMatchObject({ crErrnoName: 'ESRCH' });
  expect(error.facts.problem, error.message).toBeUndefined();
  expect(error.remedy).toContain('no such process');
});

function newSocketOptions(): boolean {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 16);
}

test('memory tracking on a kernel without it is told so, and the tree runs on', async ({ skip }) => {
  await using client = await CriuClient.start({ criuPath: criu.path });
  const { memTrack } = await client.featureCheck({ memTrack: true });
  if (memTrack === true) skip('needs a kernel without soft-dirty tracking');
  await using counter = await Counter.start(await imagesDir());
  const error = await failure(dump(counter.pid, { trackMem: true }));
  expect(error.facts.problem, error.message).toBe('dirty-tracking');
  expect(await counter.advances()).toBe(true);
});

test('a restore that is not told of an external mount says so', async () => {
  const [images, inside, outside] = [await imagesDir(), await imagesDir(), await imagesDir()];
  const withMount = ownMountsWith(join(inside, 'streams'), `mount --bind ${outside} ${outside}`);
  await using task = await OddTask.start(inside, 'plain', { prefix: withMount });
  await dump(task.pid, { imagesDir: images, leaveRunning: false, external: [`mnt[${outside}]:data`] });
  const error = await refusedRestore(images);
  expect(error.facts.problem, error.message).toBe('mount-external');
  expect(error.remedy).toContain('mnt[KEY]:SOURCE');
});

describe('a restore', () => {
  let images: string;
  let counter: Counter;
  beforeEach(async () => {
    images = (await scratch()).path;
    counter = await Counter.start(images);
  });
  afterEach(async () => {
    await counter[Symbol.asyncDispose]();
    await rm(images, { recursive: true });
  });
  const dumped = (options: Partial<CriuDumpRequest> = {}): Promise<void> =>
    dump(counter.pid, { imagesDir: images, ...options });
  const restored = (options: CriuRestoreOptions = {}): Promise<CriuError> => refusedRestore(images, options);

  test('beside the running tree is told that the pid is taken', async () => {
    await dumped();
    const error = await restored();
    expect(error.facts.problem, error.message).toBe('pid-taken');
    expect(await counter.advances()).toBe(true);
  });

  test('with a file of another size, or none, is told so', async () => {
    await dumped({ leaveRunning: false });
    await counter.gone();
    await truncate(counter.files[0], 3);
    expect((await restored()).facts.problem).toBe('file-changed');
    await counter.gone();
    await rm(counter.files[0]);
    const error = await restored();
    expect(error.facts.problem, error.message).toBe('file-missing');
  });

  test.each(freezerVersions())('without the cgroup of the dump is told so (%s)', async (version) => {
    const cgroup = makeTestCgroup(version);
    try {
      for (const pid of counter.alive()) cgroup.add(pid);
      await dumped({ leaveRunning: false, manageCgroups: 'none' });
      await counter.gone();
    } finally {
      await cgroup[Symbol.asyncDispose]();
    }
    const error = await restored({ manageCgroups: 'none' });
    expect(error.facts.problem, error.message).toBe('cgroup-controller');
    expect(error.remedy).toContain('cgRoot');
  });
});
