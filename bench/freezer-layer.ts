import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  freezerVersions,
  hierarchyRoot,
  makeCgroup,
  openFreezer,
  removeCgroup,
  type CgroupVersion,
} from '../src/index.js';
import { endChild, spawnInCgroup } from './homes/process-home.js';
import type { SmallResult } from './results.js';
import { run, workload } from './run.js';

const TASKS = [1, 100, 1000] as const;
/** Ours and the bare way take turns of so many. */
const TURN = 5;
/** As in workloads/bare-freezer.c: the tasks run for a moment between two times. */
const LET_RUN_MS = 50;

/** Freeze and thaw, each until the kernel confirms, beside a bare write and a poll in C. */
export async function measureFreezer({
  times,
  onCase,
}: {
  times: number;
  onCase: (name: string) => void;
}): Promise<SmallResult[]> {
  const results: SmallResult[] = [];
  for (const version of freezerVersions()) {
    for (const tasks of TASKS) {
      const name = `freeze and thaw ${tasks} ${tasks === 1 ? 'task' : 'tasks'}, cgroup v${version}`;
      onCase(name);
      results.push(await withTasks(version, tasks, (cgroup) => inTurns(name, cgroup, times)));
    }
  }
  return results;
}

async function withTasks<T>(version: CgroupVersion, tasks: number, work: (cgroup: string) => Promise<T>): Promise<T> {
  const cgroup = join(hierarchyRoot(version)!, `stillframe-bench-${process.pid}`);
  makeCgroup(cgroup);
  const child = spawnInCgroup(cgroup, workload('sleepers'), [String(tasks)], 'pipe');
  try {
    await Promise.race([
      once(child.stdout!, 'data'),
      once(child, 'exit').then(() => Promise.reject(new Error(`sleepers ${tasks} ended at once`))),
    ]);
    return await work(cgroup);
  } finally {
    await openFreezer({ cgroup }).thaw();
    await endChild(child);
    await removeCgroup(cgroup, { timeoutMs: 10_000 });
  }
}

async function inTurns(name: string, cgroup: string, times: number): Promise<SmallResult> {
  const freezer = openFreezer({ cgroup });
  const ours: number[] = [];
  const bare: number[] = [];
  for (let turn = -1; turn < times / TURN; turn++) {
    for (let i = 0; i < TURN; i++) {
      await sleep(LET_RUN_MS);
      const start = performance.now();
      await freezer.freeze();
      await freezer.thaw();
      if (turn >= 0) ours.push(performance.now() - start);
    }
    const lines = (await run(workload('bare-freezer'), [cgroup, String(TURN)])).trim().split('\n');
    if (turn >= 0) bare.push(...lines.map((line) => line.split(' ').reduce((sum, ns) => sum + Number(ns) / 1e6, 0)));
  }
  return {
    name,
    unit: 'ms',
    columns: [
      { name: 'stillframe', values: ours },
      { name: 'a bare write and poll in C', values: bare },
    ],
  };
}
