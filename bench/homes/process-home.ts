import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hierarchyRoot, makeCgroup, openFreezer, removeCgroup } from '../../src/index.js';
import { Gauge, gaugeArguments } from '../gauge.js';
import { workload } from '../run.js';
import { READY_TIMEOUT_MS, type CaseSetup, type Home } from './home.js';

/** The gauge as a plain process in a freezer cgroup of its own. */
export class ProcessHome implements Home {
  private constructor(
    readonly gauge: Gauge,
    readonly pid: number,
    readonly cgroup: string,
    readonly filesDir: string,
    readonly setup: CaseSetup,
    private readonly child: ChildProcess,
  ) {}

  static async start(setup: CaseSetup): Promise<ProcessHome> {
    const { scenario } = setup;
    const root = hierarchyRoot(scenario.cgroup);
    if (root === undefined) throw new Error(`this machine has no cgroup v${scenario.cgroup} freezer`);
    const cgroup = join(root, `stillframe-bench-process-${process.pid}`);
    const filesDir = join(setup.scratchDir, 'process-files');
    const statusPath = join(setup.statusDir, 'process');
    await mkdir(filesDir);
    makeCgroup(cgroup);
    const child = spawnInCgroup(cgroup, workload('gauge'), gaugeArguments(scenario, { statusPath, filesDir }));
    const gauge = await Gauge.open(statusPath, {
      timeoutMs: READY_TIMEOUT_MS,
      alive: () => child.exitCode === null && child.signalCode === null,
    });
    if (child.pid === undefined) throw new Error('the gauge has no pid');
    Gauge.prefer(child.pid);
    return new ProcessHome(gauge, child.pid, cgroup, filesDir, setup, child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await openFreezer({ cgroup: this.cgroup }).thaw();
    await endChild(this.child);
    this.gauge[Symbol.dispose]();
    await removeCgroup(this.cgroup, { timeoutMs: 10_000 });
    await rm(this.filesDir, { recursive: true, force: true });
  }
}

/** The shell enters the cgroup before it becomes the program: every task it ever has is born there. */
export function spawnInCgroup(
  cgroup: string,
  program: string,
  args: readonly string[],
  stdout: 'ignore' | 'pipe' = 'ignore',
): ChildProcess {
  return spawn('/bin/sh', ['-c', 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"', 'sh', cgroup, program, ...args], {
    detached: true,
    stdio: ['ignore', stdout, 'ignore'],
  });
}

export async function endChild(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}
