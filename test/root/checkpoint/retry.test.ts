import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { checkpoint, openFreezer, verify, type CheckpointOptions, type PhaseEvent } from '../../../src/index.js';
import { runningPids } from '../../../src/checkpoint/base/pids.js';
import { compiled } from '../../fixtures/compiled.js';
import { freezerVersions, makeTestCgroup, type TestCgroup, type Version } from '../../fixtures/cgroup.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';
import { OddTask } from '../../fixtures/odd-task.js';
import { endChild, until } from '../../fixtures/processes.js';

/** A process in vfork, in a cgroup of its own. */
class Vforker implements AsyncDisposable {
  readonly scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  readonly output = join(this.scratch, 'out.tar');
  readonly child = spawn(
    compiled(fileURLToPath(new URL('vforker.c', import.meta.url))),
    [join(this.scratch, 'counter')],
    { stdio: 'ignore', detached: true },
  );
  readonly cgroup: TestCgroup;
  readonly pid = this.child.pid as number;

  constructor(version: Version) {
    this.cgroup = makeTestCgroup(version);
    endsWithTest(this);
  }

  async settle(): Promise<void> {
    expect(await until(() => runningPids(this.pid).length === 2)).toBe(true);
    for (const pid of runningPids(this.pid)) this.cgroup.add(pid);
  }

  /** As exec does in a real program: the memory is the parent's alone from now on. */
  endVfork(): void {
    for (const pid of runningPids(this.pid).slice(1)) process.kill(pid, 'SIGKILL');
  }

  count(): bigint {
    return readFileSync(join(this.scratch, 'counter')).readBigUInt64LE();
  }

  async checkpoint(options: Partial<CheckpointOptions>): Promise<{ attempts: number; events: PhaseEvent[] }> {
    const events: PhaseEvent[] = [];
    const report = await checkpoint({
      pid: this.pid,
      cgroup: this.cgroup.path,
      output: this.output,
      ...options,
      onProgress: (event) => {
        events.push(event);
        options.onProgress?.(event);
      },
    });
    return { attempts: report.attempts, events };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (existsSync(this.cgroup.path)) this.cgroup.wish(false);
    this.endVfork();
    await endChild(this.child);
    await this.cgroup[Symbol.asyncDispose]();
    rmSync(this.scratch, { recursive: true, force: true });
  }
}

describe.each(freezerVersions())('a refusal that passes, cgroup %s', (version) => {
  it('is tried again after a verified thaw, and told', async () => {
    await using target = new Vforker(version);
    await target.settle();
    let between: unknown;
    const { attempts, events } = await target.checkpoint({
      onProgress: ({ phase, at }) => {
        if (phase !== 'retry' || at !== 'start') return;
        between = openFreezer({ cgroup: target.cgroup.path }).state();
        target.endVfork();
      },
    });
    expect(attempts).toBe(2);
    expect(between).toEqual({ selfFrozen: false, frozenAncestor: undefined, frozen: false });
    expect(events.filter(({ phase, at }) => phase === 'retry' && at === 'start')).toMatchObject([
      { attempt: 2, error: { code: 'TARGET_FORKING', facts: { pid: target.pid } } },
    ]);
    // One for each window.
    expect(events.filter(({ phase, at }) => phase === 'thaw' && at === 'end')).toHaveLength(2);
    await verify(target.output);
    expect(readdirSync(target.scratch).sort()).toEqual(['counter', 'out.tar']);
    const before = target.count();
    expect(await until(() => target.count() > before)).toBe(true);
  });

  it.each([
    ['tcp-in-flight', 'tcp-in-flight'],
    ['netlink', 'netlink-unread'],
    ['corked', 'udp-corked'],
  ] as const)(
    "that does not pass (%s) is the error after so many tries, and CRIU's log is kept of the last",
    async (kind, problem) => {
      await using cgroup = makeTestCgroup(version);
      const scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
      await using task = await OddTask.start(scratch, kind);
      cgroup.add(task.pid);
      const criuLog = join(scratch, 'criu.log');
      const found = readdirSync(scratch);
      let retries = 0;
      const onProgress = ({ phase, at }: PhaseEvent): void => {
        if (phase !== 'retry' || at !== 'start') return;
        retries++;
        expect(existsSync(criuLog), 'no log of an attempt that is not the last').toBe(false);
      };
      const target = { pid: task.pid, cgroup: cgroup.path, output: join(scratch, 'out.tar'), onProgress };
      await expect(checkpoint({ ...target, retries: 1, criuLog })).rejects.toMatchObject({
        code: 'CRIU_REQUEST_FAILED',
        facts: { problem, logPath: criuLog },
      });
      expect(retries).toBe(1);
      await expect(checkpoint({ ...target, retries: 0 })).rejects.toMatchObject({ facts: { problem } });
      expect(retries).toBe(1);
      expect(readdirSync(scratch).sort()).toEqual([...found, 'criu.log'].sort());
      expect(openFreezer({ cgroup: cgroup.path }).state()).toMatchObject({ selfFrozen: false, frozen: false });
      rmSync(scratch, { recursive: true, force: true });
    },
  );

  it('ends when it is cancelled in the pause', async () => {
    await using target = new Vforker(version);
    await target.settle();
    const cancel = new AbortController();
    const onProgress = ({ phase, at }: PhaseEvent): void => {
      if (phase === 'retry' && at === 'start') cancel.abort(new Error('enough'));
    };
    await expect(target.checkpoint({ retries: 1000, signal: cancel.signal, onProgress })).rejects.toThrow();
    expect(openFreezer({ cgroup: target.cgroup.path }).state().frozen).toBe(false);
  });
});
