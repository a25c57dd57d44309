/** A signal that is aborted at each step of a checkpoint: its reason comes out, and everything is as it was. */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { adopt } from '../../../src/cgroup/index.js';
import { cgroupNameOf } from '../../../src/cgroup/membership.js';
import { Guardian } from '../../../src/checkpoint/guardian/guardian.js';
import { lockTarget } from '../../../src/checkpoint/guardian/lock.js';
import { findCriu } from '../../../src/criu/index.js';
import { checkpoint, type Phase } from '../../../src/index.js';
import { childrenOf } from '../../../src/proc/children.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions, makeTestCgroup, withCgroup } from '../../fixtures/cgroup.js';
import { spawnCounter, until } from '../../fixtures/processes.js';
import { isRunning, killOwner, numberOf, startOwner, TestState } from '../faults/owner.js';

const [version] = freezerVersions();
if (version === undefined) throw new Error('this machine has no freezer');

/** Rejects with the very reason. What it breaks off would take longer than a test may. */
async function expectCancelled(work: Promise<unknown>, reason: unknown): Promise<void> {
  await expect(work).rejects.toBe(reason);
}

function temporary(): string {
  const path = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

it.each<Phase>(['resolve', 'lock', 'guardian', 'adopt', 'precopy', 'start-criu', 'freeze', 'seal'])(
  'a checkpoint that is cancelled as the phase %s begins rejects with the reason and takes everything back',
  async (phase) => {
    await using writer = await BusyWriter.start(version);
    using state = new TestState();
    const home = cgroupNameOf(writer.pid, numberOf(version));
    const processes = childrenOf(process.pid);
    const cancel = new AbortController();
    const reason = new Error('cancelled by the test');
    await expectCancelled(
      checkpoint({
        pid: writer.pid,
        adopt: true,
        files: [{ path: writer.data, name: 'data' }],
        output: writer.path('a.tar'),
        stateDir: state.dir,
        signal: cancel.signal,
        onProgress: (event) => {
          if (event.phase === phase && event.at === 'start') cancel.abort(reason);
        },
      }),
      reason,
    );
    expect(cgroupNameOf(writer.pid, numberOf(version))).toBe(home);
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(writer.leftovers()).toEqual([]);
    expect(state.journals()).toEqual([]);
    expect(await until(() => childrenOf(process.pid).join() === processes.join())).toBe(true);
  },
);

it('a checkpoint that was cancelled before it began begins no phase', async () => {
  await using counter = await spawnCounter();
  const phases: Phase[] = [];
  const reason = new Error('cancelled by the test');
  const output = join(temporary(), 'a.tar');
  await expectCancelled(
    checkpoint({
      pid: counter.pid,
      adopt: true,
      output,
      signal: AbortSignal.abort(reason),
      onProgress: ({ phase }) => void phases.push(phase),
    }),
    reason,
  );
  expect(phases).toEqual([]);
});

it('the search for a CRIU leaves one that does not answer, and says nothing against it', async () => {
  const criuPath = join(temporary(), 'criu');
  writeFileSync(criuPath, '#!/bin/sh\nexec sleep 600\n');
  chmodSync(criuPath, 0o755);
  const processes = childrenOf(process.pid);
  const cancel = new AbortController();
  const reason = new Error('cancelled by the test');
  const search = findCriu({ criuPath, timeoutMs: 600_000, signal: cancel.signal });
  expect(await until(() => commands(childrenOf(process.pid)).includes('sleep'))).toBe(true);
  cancel.abort(reason);
  await expectCancelled(search, reason);
  expect(childrenOf(process.pid)).toEqual(processes);
  await expectCancelled(findCriu({ criuPath, signal: cancel.signal }), reason);
});

it('whoever waits for the lock while a guardian is at work is let go, and the lock with him', () =>
  withCgroup(version, async (cgroup) => {
    using state = new TestState();
    await using counter = await spawnCounter();
    cgroup.add(counter.pid);
    const wanted = {
      pid: counter.pid,
      cgroup: { version: numberOf(version), path: cgroup.path },
      stateDir: state.dir,
    };
    const owner = await startOwner({ ...wanted, freeze: true, criu: ['sleep', '600'], criuTimeoutMs: 600_000 });
    await killOwner(owner);
    expect(isRunning(owner.guardian)).toBe(true);
    const cancel = new AbortController();
    const reason = new Error('cancelled by the test');
    const lock = lockTarget({ ...wanted, signal: cancel.signal });
    expect(await until(() => state.journals().length === 2), 'it waits').toBe(true);
    cancel.abort(reason);
    await expectCancelled(lock, reason);
    expect(state.journals()).toHaveLength(1);
    process.kill(owner.criu, 'SIGKILL');
    expect(await until(() => state.journals().length === 0, 10_000), 'the guardian goes on').toBe(true);
    expect(await counter.goesOn()).toBe(true);
  }));

it('a guardian that is not needed any more when it has been started ends', async () => {
  using state = new TestState();
  await using counter = await spawnCounter();
  using journal = await lockTarget({ pid: counter.pid, stateDir: state.dir });
  const processes = childrenOf(process.pid);
  const cancel = new AbortController();
  const reason = new Error('cancelled by the test');
  const armed = Guardian.arm({ journal, signal: cancel.signal });
  expect(childrenOf(process.pid).length, 'it has been started').toBe(processes.length + 1);
  cancel.abort(reason);
  await expectCancelled(armed, reason);
  expect(await until(() => childrenOf(process.pid).join() === processes.join())).toBe(true);
  expect(journal.entry.guardian).toBeUndefined();
  await expectCancelled(Guardian.arm({ journal, signal: cancel.signal }), reason);
  expect(childrenOf(process.pid)).toEqual(processes);
});

it.each(freezerVersions())('an adoption that is cancelled gives back what it has moved, cgroup %s', async (name) => {
  await using cgroup = makeTestCgroup(name);
  await using bomb = await spawnCounter({ mode: 'bomb', count: 50, cgroup: cgroup.path });
  await bomb.goesOn();
  const home = cgroupNameOf(bomb.pid, numberOf(name));
  const cancel = new AbortController();
  const reason = new Error('cancelled by the test');
  const adoption = adopt({
    pid: bomb.pid,
    version: numberOf(name),
    signal: cancel.signal,
    onMade: () => void setImmediate(() => cancel.abort(reason)),
  });
  await expectCancelled(adoption, reason);
  expect(cgroupNameOf(bomb.pid, numberOf(name))).toBe(home);
  expect(readdirSync(cgroup.path).filter((entry) => entry.startsWith('stillframe-'))).toEqual([]);
  expect(await bomb.goesOn()).toBe(true);
  let wasTold = false;
  const late = adopt({ pid: bomb.pid, signal: cancel.signal, onMaking: () => (wasTold = true) });
  await expectCancelled(late, reason);
  expect(wasTold).toBe(false);
});

function commands(pids: readonly number[]): string[] {
  return pids.flatMap((pid) => {
    try {
      return [readFileSync(`/proc/${pid}/comm`, 'utf8').trim()];
    } catch {
      return []; // it has ended
    }
  });
}
