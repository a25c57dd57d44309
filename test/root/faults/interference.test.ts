import { existsSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { StillframeError } from '../../../src/errors.js';
import { openFreezer } from '../../../src/cgroup/index.js';
import { checkpoint } from '../../../src/checkpoint/checkpoint.js';
import { verify } from '../../../src/checkpoint/inspect.js';
import { restore } from '../../../src/checkpoint/restore/restore.js';
import type { CheckpointOptions } from '../../../src/checkpoint/options.js';
import type { Phase, PhaseEvent } from '../../../src/checkpoint/events/phases.js';
import type { CheckpointReport } from '../../../src/checkpoint/events/report.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions, withCgroup, type Version } from '../../fixtures/cgroup.js';
import { spawnCounter, until } from '../../fixtures/processes.js';
import { childrenNamed } from './sweep.js';

type Outcome = { report: CheckpointReport; error?: undefined } | { error: StillframeError; report?: undefined };

/** A checkpoint during which `meddle` is done at one moment. It succeeds, or fails with an error of ours; nothing else. */
async function disturbed(
  writer: BusyWriter,
  when: `${Phase} ${'start' | 'end'}`,
  meddle: () => void,
  options: Partial<CheckpointOptions> = {},
): Promise<Outcome> {
  let done = false;
  const onProgress = ({ phase, at }: PhaseEvent): void => {
    if (done || `${phase} ${at}` !== when) return;
    done = true;
    meddle();
  };
  const output = writer.path('out.tar');
  try {
    const report = await checkpoint({
      pid: writer.pid,
      cgroup: writer.cgroup.path,
      files: [{ path: writer.data, name: 'data' }],
      output,
      onProgress,
      ...options,
    });
    await verify(output);
    return { report };
  } catch (error) {
    if (!(error instanceof StillframeError)) throw error;
    expect(existsSync(output), 'no archive after an error').toBe(false);
    return { error };
  } finally {
    expect(done, `the checkpoint came to: ${when}`).toBe(true);
    const left = writer.leftovers().filter((name) => name !== 'out.tar');
    expect(left).toEqual([]);
  }
}

async function isUntouched(writer: BusyWriter): Promise<void> {
  expect(openFreezer({ cgroup: writer.cgroup.path }).state()).toMatchObject({ selfFrozen: false, frozen: false });
  expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
}

async function scene(version: Version, play: (writer: BusyWriter) => Promise<void>): Promise<void> {
  await using writer = await BusyWriter.start(version, { memoryMiB: 8 });
  await play(writer);
}

describe.each(freezerVersions())('others interfere, cgroup %s', (version) => {
  it('somebody thaws the cgroup before CRIU has seized it: no archive', () =>
    scene(version, async (writer) => {
      const { error } = await disturbed(writer, 'freeze end', () => writer.cgroup.wish(false));
      expect(error?.code).toBe('THAWED_BY_OTHERS');
      await isUntouched(writer);
    }));

  it('somebody thaws the cgroup right before the end of the window', () =>
    scene(version, async (writer) => {
      await disturbed(writer, 'dump end', () => writer.cgroup.wish(false));
      await isUntouched(writer);
    }));

  it('somebody moves a process out of the frozen cgroup', () =>
    scene(version, async (writer) => {
      const moved = writer.pids.at(-1) as number;
      await disturbed(writer, 'freeze end', () =>
        writeFileSync(join(dirname(writer.cgroup.path), 'cgroup.procs'), String(moved)),
      );
      await isUntouched(writer);
      writer.cgroup.add(moved);
    }));

  it('somebody moves a process out before the freeze: refused, because it would run on', () =>
    scene(version, async (writer) => {
      const moved = writer.pids.at(-1) as number;
      const { error } = await disturbed(writer, 'start-criu start', () =>
        writeFileSync(join(dirname(writer.cgroup.path), 'cgroup.procs'), String(moved)),
      );
      expect(error?.code).toBe('TARGET_SPREAD');
      await isUntouched(writer);
      writer.cgroup.add(moved);
    }));

  it('somebody puts a stranger into the cgroup before the freeze: refused, and the stranger runs on', () =>
    scene(version, async (writer) => {
      await using stranger = await spawnCounter();
      const { error } = await disturbed(writer, 'start-criu start', () => writer.cgroup.add(stranger.pid));
      expect(error?.code).toBe('CGROUP_HAS_STRANGERS');
      expect(await stranger.goesOn()).toBe(true);
      await isUntouched(writer);
    }));

  it('somebody kills the tree in the window', () =>
    scene(version, async (writer) => {
      const { error } = await disturbed(writer, 'refresh start', () =>
        writer.pids.forEach((pid) => process.kill(pid, 'SIGKILL')),
      );
      expect(openFreezer({ cgroup: writer.cgroup.path }).state().selfFrozen).toBe(false);
      if (error !== undefined) return;
      // Where this process came late to it, CRIU had the whole tree already: then the archive has it, too.
      await writer.destroy();
      await restore({ archive: writer.path('out.tar') });
      expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    }));

  it('somebody kills the tree and removes its cgroup', () =>
    withCgroup(version, async (parent) => {
      await using writer = await BusyWriter.start(version, { memoryMiB: 8 });
      const inner = parent.child('inner');
      writer.pids.forEach((pid) => inner.add(pid));
      const remove = async (): Promise<void> => {
        inner.wish(false);
        await writer.kill();
        await until(() => tryRemove(inner.path), 5000);
      };
      let removed: Promise<void> | undefined;
      const { error } = await disturbed(writer, 'freeze end', () => void (removed = remove()), { cgroup: inner.path });
      await removed;
      expect(error).toBeDefined();
      expect(error?.code).not.toBe('LEFT_FROZEN');
    }));

  it('CRIU is killed in the window', () =>
    scene(version, async (writer) => {
      const pids = writer.pids;
      const { error } = await disturbed(writer, 'refresh start', () =>
        childrenNamed('criu').forEach((pid) => process.kill(pid, 'SIGKILL')),
      );
      expect(openFreezer({ cgroup: writer.cgroup.path }).state()).toMatchObject({ selfFrozen: false, frozen: false });
      // It can take a task along, whose registers it held: docs/guardian.md, "What cannot be recovered".
      const well = await writer.isWell();
      if (writer.pids.length < pids.length) expect(error?.code).toMatch(/^(CRIU_DIED|TARGET_GONE)$/);
      else {
        expect(error?.code).toBe('CRIU_DIED');
        expect(well).toEqual({ goesOn: true, mismatches: 0, lost: '' });
      }
    }));

  it('CRIU is stopped in the window: the deadline frees the tree', () =>
    scene(version, async (writer) => {
      const start = performance.now();
      const { error } = await disturbed(
        writer,
        'refresh start',
        () => childrenNamed('criu').forEach((pid) => process.kill(pid, 'SIGSTOP')),
        { maxFrozenMs: 500 },
      );
      expect(error?.code).toBe('DEADLINE_EXCEEDED');
      expect(performance.now() - start).toBeLessThan(8000);
      expect(childrenNamed('criu')).toEqual([]);
      await isUntouched(writer);
    }));

  it('CRIU is stopped before it is ready: it is given up, and nothing was frozen', () =>
    scene(version, async (writer) => {
      const windows: unknown[] = [];
      const onWindow = (event: unknown): void => void windows.push(event);
      const stop = (): void => childrenNamed('criu').forEach((pid) => process.kill(pid, 'SIGSTOP'));
      const { error } = await disturbed(writer, 'dump start', stop, { criuStartTimeoutMs: 500, onWindow });
      expect(error).toMatchObject({ code: 'CRIU_NOT_READY', facts: { timeoutMs: 500, state: 'T' } });
      expect(windows).toEqual([]);
      expect(childrenNamed('criu')).toEqual([]);
      await isUntouched(writer);
    }));

  it('the guardian is killed before the window: nothing is frozen', () =>
    scene(version, async (writer) => {
      const { error } = await disturbed(writer, 'start-criu start', () =>
        childrenNamed('stillframe-guar').forEach((pid) => process.kill(pid, 'SIGKILL')),
      );
      expect(error?.code).toBe('GUARDIAN_LOST');
      await isUntouched(writer);
    }));

  it('the guardian is killed inside the window: the checkpoint ends as it should', () =>
    scene(version, async (writer) => {
      const { report } = await disturbed(writer, 'refresh start', () =>
        childrenNamed('stillframe-guar').forEach((pid) => process.kill(pid, 'SIGKILL')),
      );
      expect(report?.archiveBytes).toBeGreaterThan(0);
      await isUntouched(writer);
    }));

  it.each([1, 5, 15, 40])(
    'a deadline of %i ms is kept: the tree runs on, and the error says what was too slow',
    (maxFrozenMs) =>
      scene(version, async (writer) => {
        await writer.resetGauge();
        const outcome = await checkpoint({
          pid: writer.pid,
          cgroup: writer.cgroup.path,
          files: [{ path: writer.data, name: 'data' }],
          output: writer.path('out.tar'),
          maxFrozenMs,
        }).then(
          ({ windowMs }) => ({ windowMs, error: undefined }),
          (error: unknown) => ({ windowMs: undefined, error: error as StillframeError }),
        );
        if (outcome.error === undefined) expect(outcome.windowMs).toBeLessThan(maxFrozenMs + 20);
        else
          expect(outcome.error).toMatchObject({
            code: 'DEADLINE_EXCEEDED',
            facts: { maxFrozenMs, phase: expect.stringMatching(/freeze|dump|refresh/) },
          });
        if (maxFrozenMs === 1) expect(outcome.error).toBeDefined();
        await isUntouched(writer);
      }),
  );
});

function tryRemove(path: string): boolean {
  try {
    if (readFileSync(join(path, 'cgroup.procs'), 'utf8') === '') rmdirSync(path);
  } catch {
    // Not empty yet, or gone.
  }
  return !existsSync(path);
}
