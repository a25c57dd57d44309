/** What of a task counts as its own, and what as given to it by its cgroup. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { isOfDescriptor } from '../../../src/checkpoint/warnings/descriptor-state.js';
import {
  statesNotRestored,
  unusualState,
  usualState,
  type TaskState,
} from '../../../src/checkpoint/warnings/task-state.js';
import { planCheckpoint, type RecordedWarning } from '../../../src/index.js';
import { Cpusets } from '../../../src/cgroup/index.js';
import { endChild, until } from '../../fixtures/processes.js';
import { State } from './state/state.js';

/** A cgroup whose tasks may run on the first CPU only. */
function makeCpuset(): string {
  const root = ['/sys/fs/cgroup/cpuset', '/sys/fs/cgroup'].find((path) =>
    ['cpuset.cpus', 'cpuset.cpus.effective'].some((file) => existsSync(join(path, file))),
  );
  if (root === undefined) throw new Error('needs a cgroup hierarchy with the cpuset controller');
  if (existsSync(join(root, 'cgroup.subtree_control'))) writeFileSync(join(root, 'cgroup.subtree_control'), '+cpuset');
  const path = join(root, `stillframe-test-${process.pid}-cpus`);
  mkdirSync(path);
  onTestFinished(async () => {
    await until(() => readFileSync(join(path, 'cgroup.procs'), 'latin1') === '');
    rmdirSync(path);
  });
  if (existsSync(join(path, 'cpuset.mems'))) writeFileSync(join(path, 'cpuset.mems'), '0');
  writeFileSync(join(path, 'cpuset.cpus'), '0');
  return path;
}

const affinityOf = async (pid: number): Promise<unknown[]> =>
  (await unusualState(pid, usualState())).filter(({ what }) => what === 'CPU affinity');

it('CPUs that a cpuset allows are no affinity of a task, and fewer of them are', async () => {
  const cpuset = makeCpuset();
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  onTestFinished(() => endChild(child));
  const pid = child.pid as number;
  expect(await affinityOf(pid)).toEqual([]);
  writeFileSync(join(cpuset, 'cgroup.procs'), String(pid));
  expect([new Cpusets().of(`${pid}/task/${pid}`), await affinityOf(pid)]).toEqual(['0', []]);
  writeFileSync(join(cpuset, 'cpuset.cpus'), '0-1');
  execFileSync('taskset', ['-p', '-c', '1', String(pid)]);
  expect(await affinityOf(pid)).toEqual([{ pid, tid: pid, what: 'CPU affinity', value: '2' }]);
});

const options = (states: readonly TaskState[]): string[] => states.flatMap(({ options = [] }) => options);

it('sockets on which nothing was set have no options to warn of, connected or not', async () => {
  const { pid } = await State.start([
    ...['unix_stream_queue', 'unix_seqpacket_queue', 'unix_listener', 'unix_peer_credentials'],
    ...['tcp_backlog', 'tcp_connection', 'tcp6_connection', 'tcp_half_closed', 'udp_connected', 'socket_filter'],
    ...['netlink', 'packet_socket', 'raw_socket', 'inotify', 'fanotify', 'eventfd', 'timerfd'],
  ]);
  expect((await unusualState(pid, usualState())).filter(({ what }) => isOfDescriptor(what))).toEqual([]);
});

it('of the options that were lost, a restored tree is told of those that it does not have again', async () => {
  const { pid } = await State.start(['options_unix']);
  const states = await unusualState(pid, usualState());
  expect(options(states)).toEqual(['SO_PASSPIDFD']);
  const recorded = (of: TaskState[]): RecordedWarning[] => [
    { code: 'STATE_LOST', facts: { states: of }, message: '', remedy: '' },
  ];
  const lost = async (of: TaskState[]): Promise<string[]> =>
    options((await statesNotRestored(recorded(of), pid)).states);
  expect(await lost(states)).toEqual([]);
  const more = states.map((state) => ({ ...state, options: ['SO_ZEROCOPY', 'SO_PASSPIDFD'] }));
  expect(await lost(more)).toEqual(['SO_ZEROCOPY']);
  const elsewhere = more.map((state) => ({ ...state, value: '999' }));
  expect(await lost(elsewhere)).toEqual(['SO_ZEROCOPY', 'SO_PASSPIDFD']);
});

it('a thousand lost states are listed, and the rest are counted, at the restore too', async () => {
  const script =
    'import os, resource, time\nresource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))\n' +
    'for i in range(1200): os.eventfd(0, os.EFD_SEMAPHORE)\nprint(flush=True)\ntime.sleep(60)';
  const child = spawn('python3', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => endChild(child));
  await once(child.stdout, 'data');
  const pid = child.pid as number;
  const all = (await unusualState(pid, usualState())).length;
  expect(all).toBeGreaterThanOrEqual(1200);
  const more = all - 1000;
  const { warnings } = await planCheckpoint({ pid, adopt: true, observeMs: 0 });
  const [lost] = warnings.filter(({ code }) => code === 'STATE_LOST');
  expect(lost).toMatchObject({ facts: { more }, message: expect.stringContaining(`and ${all - 10} more`) as string });
  expect((lost?.facts as { states: unknown[] }).states).toHaveLength(1000);
  expect(await statesNotRestored([lost as unknown as RecordedWarning], pid)).toMatchObject({ states: [], more });
});
