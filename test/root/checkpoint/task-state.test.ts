/** What of a task counts as its own, and what as given to it by its cgroup. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { unusualState, usualState } from '../../../src/checkpoint/warnings/task-state.js';
import { Cpusets } from '../../../src/cgroup/index.js';
import { endChild, until } from '../../fixtures/processes.js';

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
