/** The workload that tests and figures rely on: what its gauge says. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { openFreezer } from '../../src/index.js';
import { readProcess } from '../../src/proc/task.js';
import { busyWriter, type WriterStatus } from '../fixtures/busy-writer.js';
import { freezerVersions, makeTestCgroup } from '../fixtures/cgroup.js';
import { scratch } from '../fixtures/criu.js';
import { until } from '../fixtures/processes.js';
import { FailingDisk } from './faults/failing-disk.js';

const HOLD_MS = 300;

it.each(freezerVersions())('a freeze that falls into the write of its status is seen, cgroup %s', async (version) => {
  await using dir = await scratch();
  using disk = new FailingDisk(dir.path);
  await using cgroup = makeTestCgroup(version);
  const data = join(dir.path, 'data');
  mkdirSync(data);
  symlinkSync(join(disk.path, 'status'), join(data, 'status'));
  spawn('sh', ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', cgroup.path, busyWriter, data], { stdio: 'ignore' });
  const status = (): WriterStatus | undefined => readStatus(join(disk.path, 'status'));
  expect(await until(() => status()?.steps.every((n) => n > 3) === true, 20_000)).toBe(true);
  for (const pid of cgroup.pids()) process.kill(pid, 'SIGUSR1');
  expect(await until(() => (status()?.holeMs ?? Infinity) < HOLD_MS / 3)).toBe(true);

  const freezer = openFreezer({ cgroup: cgroup.path });
  const stallDisk = (stalled: boolean): void =>
    void spawnSync('fsfreeze', [stalled ? '--freeze' : '--unfreeze', disk.path]);
  onTestFinished(() => stallDisk(false));
  stallDisk(true);
  const inWrite = (): boolean => cgroup.pids().some((pid) => readProcess(pid)?.state === 'D');
  expect(await until(inWrite), 'the status is being written').toBe(true);
  cgroup.wish(true);
  stallDisk(false);
  await freezer.freeze();
  await sleep(HOLD_MS);
  await freezer.thaw();
  // Node.js's timers may be a millisecond early.
  expect(await until(() => (status()?.holeMs ?? 0) > HOLD_MS - 2)).toBe(true);
});

function readStatus(path: string): WriterStatus | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as WriterStatus;
  } catch {
    return undefined; // not there yet, or read between the two halves of a write
  }
}
