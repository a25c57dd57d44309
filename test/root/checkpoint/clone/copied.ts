/** A program to make copies of, and what there is of a copy while it runs. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { runningPids } from '../../../../src/checkpoint/base/pids.js';
import { checkpoint, type RestoreReport } from '../../../../src/index.js';
import type { TestCgroup } from '../../../fixtures/cgroup.js';
import { until } from '../../../fixtures/criu.js';
import { startDetached } from '../../../fixtures/detached.js';
import { removeScratch } from '../../../fixtures/remove-scratch.js';

/** Counts in memory and, twice a second and more, in a file that it holds open; a child of its does the same. */
const script = `
import os, sys, time, signal
data = sys.argv[1]
signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))
name = 'parent' if os.fork() else 'child'
f = open(os.path.join(data, name), 'wb+', buffering=0)
n = 0
while True:
    n += 1
    os.pwrite(f.fileno(), b'%012d %d' % (n, os.getpid()), 0)
    time.sleep(0.01)
`;

export interface Original {
  pid: number;
  /** Where all of the test is, and only that; the tree's files; the archive; the state directory. */
  scratch: string;
  data: string;
  archive: string;
  stateDir: string;
  kill(): Promise<void>;
}

export function scratchDir(): string {
  const path = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => removeScratch(path));
  return path;
}

/** It runs on beside its archive. @param cgroup It is alone in; default: it is adopted. */
export async function original(cgroup?: TestCgroup): Promise<Original> {
  const scratch = scratchDir();
  const [data, archive, stateDir] = [join(scratch, 'data'), join(scratch, 'app.tar'), join(scratch, 'state')];
  mkdirSync(data);
  const { pid, kill } = await startDetached('python3', ['-c', script, data]);
  await until(() => count(join(data, 'parent')) > 3 && count(join(data, 'child')) > 3, 'both count', 120_000);
  for (const member of cgroup === undefined ? [] : runningPids(pid)) cgroup?.add(member);
  const place = cgroup === undefined ? { adopt: true } : { cgroup: cgroup.path };
  await checkpoint({ pid, ...place, files: [{ path: data, name: 'data' }], output: archive, stateDir });
  return { pid, scratch, data, archive, stateDir, kill };
}

export function count(path: string): number {
  return existsSync(path) ? Number(readFileSync(path, 'latin1').slice(0, 12)) : 0;
}

/** A path as the copy has it. */
export function inside({ pid }: Pick<RestoreReport, 'pid'>, path: string): string {
  return `/proc/${pid}/root${path}`;
}

export function innermostPid(pid: number): number {
  return Number(/^NSpid:.*\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]);
}

/** Ended with the test, whatever becomes of it. */
export function endsWithTest<T extends RestoreReport>(report: T): T {
  onTestFinished(async () => {
    try {
      process.kill(report.clone!.init, 'SIGKILL');
    } catch {
      // it has ended
    }
    await until(() => !existsSync(dirname(report.cgroup!)), 'the cgroup is gone');
  });
  return report;
}

/** What a copy could have left, in words; the journals of living ones included. */
export function leftovers({ scratch, stateDir }: Original): string[] {
  const known = ['data', 'app.tar', 'state', 'warm'];
  return [
    ...readdirSync(scratch).filter((name) => !known.includes(name)),
    ...readdirSync(stateDir).filter((name) => name.includes('@')),
    ...readFileSync('/proc/self/mountinfo', 'latin1')
      .split('\n')
      .filter((line) => line.includes(scratch)),
  ];
}
