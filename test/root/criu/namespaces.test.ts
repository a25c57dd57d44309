/**
 * Namespaces that are not the tree's own: those outside that it is dumped with, those that a restore joins, and one
 * that is made empty.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { CriuClient, findCriu, readPstree, type CriuOptions, type WorkOptions } from '../../../src/criu/index.js';
import { Counter, scratch, until } from '../../fixtures/criu.js';
import { OddTask } from '../../fixtures/odd-task.js';

let criuPath: string;
beforeAll(async () => {
  criuPath = (await findCriu()).path;
});

const namespaceOf = (pid: number, name: string): string => readlinkSync(`/proc/${pid}/ns/${name}`);

async function dump(pid: number, imagesDir: string, options: CriuOptions): Promise<void> {
  await using client = await CriuClient.start({ criuPath });
  await client.dump({ pid, imagesDir, networkLock: 'skip', ...options });
  // Those in the images are of the tree's own pid namespace, which mostly is ours.
  const pids = [
    pid,
    ...(options.external?.some((entry) => entry.startsWith('pid[')) === true
      ? []
      : (await readPstree(imagesDir)).map((process) => process.pid)),
  ];
  await until(() => !pids.some((one) => existsSync(`/proc/${one}`)), `${pids.join(', ')} have been reaped`);
}

async function restore(
  imagesDir: string,
  options: CriuOptions,
  { fds = [], ...call }: WorkOptions & { fds?: number[] } = {},
): Promise<number> {
  await using client = await CriuClient.start({ criuPath, fds });
  return (await client.restore({ imagesDir, logFile: 'restore.log', ...options }, call)).pid;
}

/** A task in a directory of its own, whose namespaces others use. */
async function host(dir: string, name: string, prefix: string[]): Promise<OddTask> {
  mkdirSync(join(dir, name));
  return await OddTask.start(join(dir, name), 'plain', { prefix });
}

test('a tree in a network namespace from outside is restored into another one', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using before = await host(dir.path, 'before', ['unshare', '--net']);
  await using after = await host(dir.path, 'after', ['unshare', '--net']);
  await using task = await host(dir.path, 'task', ['nsenter', `--net=/proc/${before.pid}/ns/net`]);
  await dump(task.pid, work.path, { external: [`net[${statSync(`/proc/${before.pid}/ns/net`).ino}]:outside`] });
  const fd = openSync(`/proc/${after.pid}/ns/net`, 'r');
  const pid = await restore(work.path, { inheritFd: [{ key: 'outside', fd }] }, { fds: [fd] });
  closeSync(fd);
  expect(pid).toBe(task.pid);
  expect(namespaceOf(pid, 'net')).toBe(namespaceOf(after.pid, 'net'));
});

test('a network namespace that is made empty is filled by a callback, which is told of it before anything runs', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path, { ownNetwork: true });
  await dump(counter.pid, work.path, { emptyNs: ['net'] });
  const told: string[] = [];
  await restore(
    work.path,
    { emptyNs: ['net'] },
    {
      onNotify: ({ script, pid }) => {
        told.push(pid === undefined ? script : `${script} ${pid}`);
        if (script === 'setup-namespaces')
          spawnSync('nsenter', [`--net=/proc/${pid}/ns/net`, 'ip', 'link', 'set', 'lo', 'up', 'alias', 'filled']);
      },
    },
  );
  expect(told).toEqual([
    'pre-restore',
    `setup-namespaces ${counter.pid}`,
    'post-setup-namespaces',
    `post-restore ${counter.pid}`,
    'network-unlock',
    'pre-resume',
    'post-resume',
  ]);
  expect(
    spawnSync('nsenter', [`--net=/proc/${counter.pid}/ns/net`, 'ip', 'link'], { encoding: 'utf8' }).stdout,
  ).toContain('filled');
  expect(await counter.advances()).toBe(true);
});

test('a tree in a pid namespace from outside is restored into another one', async () => {
  await using dir = await scratch();
  await using work = await scratch();
  const makeNamespace = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
  await using before = await host(dir.path, 'before', makeNamespace);
  await using after = await host(dir.path, 'after', makeNamespace);
  const init = ({ pid }: OddTask): number => Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1'));
  mkdirSync(join(dir.path, 'task'));
  await using task = await OddTask.start(join(dir.path, 'task'), 'plain', {
    job: true,
    prefix: ['nsenter', `--pid=/proc/${init(before)}/ns/pid`, 'setsid'],
  });
  await dump(task.pid, work.path, { external: [`pid[${statSync(`/proc/${init(before)}/ns/pid`).ino}]:outside`] });
  const fd = openSync(`/proc/${init(after)}/ns/pid`, 'r');
  const pid = await restore(work.path, { inheritFd: [{ key: 'outside', fd }] }, { fds: [fd] });
  closeSync(fd);
  try {
    expect(namespaceOf(pid, 'pid')).toBe(namespaceOf(init(after), 'pid'));
  } finally {
    process.kill(pid, 'SIGKILL');
  }
});

test.each(['uts', 'ipc', 'time', 'net'])('a restored tree joins a namespace that is there: %s', async (ns) => {
  await using dir = await scratch();
  await using work = await scratch();
  await using counter = await Counter.start(dir.path);
  mkdirSync(join(dir.path, 'other'));
  // A child: unshare(2) itself does not enter a time namespace.
  await using other = await OddTask.start(join(dir.path, 'other'), 'plain', {
    job: true,
    prefix: ['unshare', `--${ns}`, '--fork'],
  });
  await dump(counter.pid, work.path, {});
  await restore(work.path, { joinNs: [{ ns, nsFile: String(other.pid) }] });
  expect(namespaceOf(counter.pid, ns)).toBe(namespaceOf(other.pid, ns));
  expect(namespaceOf(counter.pid, ns)).not.toBe(namespaceOf(process.pid, ns));
  expect(await counter.advances()).toBe(true);
});
