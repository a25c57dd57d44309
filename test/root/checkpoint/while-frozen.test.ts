import { execFileSync, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import {
  checkpoint,
  frozenCgroups,
  openFreezer,
  verify,
  whileFrozen,
  type Frozen,
  type WindowEvent,
} from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions, makeTestCgroup, withCgroup, type TestCgroup, type Version } from '../../fixtures/cgroup.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';
import { endChild, spawnCounter, until, type Counter } from '../../fixtures/processes.js';
import { TestState } from '../faults/owner.js';

interface Scene {
  cgroup: TestCgroup;
  counter: Counter;
  state: TestState;
  options: { pid: number; cgroup: string; stateDir: string };
}

/** A counter in a cgroup of its own, and a state directory; nothing may be left frozen or behind. */
async function scene(version: Version, play: (scene: Scene) => Promise<void>): Promise<void> {
  using state = endsWithTest(new TestState());
  await withCgroup(version, async (cgroup) => {
    await using counter = await spawnCounter();
    cgroup.add(counter.pid);
    const options = { pid: counter.pid, cgroup: cgroup.path, stateDir: state.dir };
    await play({ cgroup, counter, state, options });
    expect(state.journals()).toEqual([]);
    expect(openFreezer({ cgroup: cgroup.path }).state().selfFrozen).toBe(false);
    expect(await counter.goesOn()).toBe(true);
  });
}

/** A promise that never settles. */
const forEver = (): Promise<never> => new Promise(() => undefined);

/** Holds the event loop. */
const block = (seconds: number): void => void execFileSync('sleep', [String(seconds)]);

describe.each(freezerVersions())('whileFrozen, cgroup %s', (version) => {
  it('lets the tree stand still during the callback, and run afterwards', async () => {
    using state = endsWithTest(new TestState());
    await using writer = await BusyWriter.start(version);
    await writer.resetGauge();
    const windows: WindowEvent[] = [];
    let seen: Frozen | undefined;
    const { result, ...report } = await whileFrozen(
      { pid: writer.pid, stateDir: state.dir, onWindow: (event) => windows.push(event) },
      async (frozen) => {
        seen = frozen;
        const before = writer.tryStatus()?.steps;
        await sleep(300);
        expect(writer.tryStatus()?.steps).toEqual(before);
        const ours = (await frozenCgroups({ stateDir: state.dir })).find(({ path }) => path === writer.cgroup.path);
        expect(ours?.by).toEqual({ pid: process.pid, targetPid: writer.pid, isAlive: true });
        return 'a value';
      },
    );
    expect(result).toBe('a value');
    const cgroup = { version: version === 'v1' ? 1 : 2, path: writer.cgroup.path };
    expect(seen).toMatchObject({ pid: writer.pid, cgroup, deadlineMs: undefined });
    expect([...seen!.pids].sort()).toEqual([...writer.pids].sort());
    expect(report).toMatchObject({ pid: writer.pid, cgroup: { ...cgroup, adopted: false }, foundFrozen: false });
    expect(report.windowMs).toBeGreaterThan(300);
    expect(report.windowMs).toBeLessThan(report.totalMs);
    const { freezeMs, callbackMs, thawMs } = report.window;
    expect(freezeMs + callbackMs + thawMs).toBeCloseTo(report.windowMs, 6);
    expect(windows).toMatchObject([{ pid: writer.pid, outcome: 'done', windowMs: report.windowMs }]);
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    // The gauge of the tree itself: it stood still for that long, and hardly longer.
    const { holeMs } = await writer.status();
    expect(holeMs).toBeGreaterThan(290);
    expect(state.journals()).toEqual([]);
  });

  it('thaws before it throws what the callback throws, at once or later', () =>
    scene(version, async ({ counter, options }) => {
      for (const failing of [
        (error: Error): never => {
          throw error;
        },
        async (error: Error): Promise<never> => {
          await sleep(20);
          throw error;
        },
      ]) {
        const mine = new Error('mine');
        let later: boolean | undefined;
        const failed = await whileFrozen(options, () => failing(mine)).catch((error: unknown) => {
          later = openFreezer({ cgroup: options.cgroup }).state().frozen;
          return error;
        });
        expect(failed).toBe(mine);
        expect(later).toBe(false);
        expect(await counter.goesOn()).toBe(true);
      }
    }));

  it('thaws on time whatever the callback does', () =>
    scene(version, async ({ counter, options }) => {
      let frozen: Frozen | undefined;
      const windows: WindowEvent[] = [];
      const limits = { ...options, maxFrozenMs: 500, onWindow: (event: WindowEvent) => windows.push(event) };
      const start = performance.now();
      const waiting = whileFrozen(limits, (given) => {
        frozen = given;
        return forEver();
      });
      await expect(waiting).rejects.toMatchObject({
        code: 'DEADLINE_EXCEEDED',
        facts: { maxFrozenMs: 500, phase: 'callback' },
      });
      expect(frozen?.deadlineMs).toBeGreaterThan(start + 500);
      expect(frozen?.signal.reason).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
      expect(windows).toMatchObject([{ outcome: 'failed', error: { code: 'DEADLINE_EXCEEDED' } }]);
      // Its time runs from before the freeze, which takes as long as the machine is busy.
      expect(performance.now() - start).toBeGreaterThanOrEqual(500);
      expect(windows[0]?.windowMs).toBeLessThan(performance.now() - start);
      expect(await counter.goesOn()).toBe(true);
      // What it still throws is nobody's: no unhandled rejection ends the process.
      const late = whileFrozen({ ...options, maxFrozenMs: 50 }, async () => {
        await sleep(150);
        throw new Error('late');
      });
      await expect(late).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
      await sleep(150);
    }));

  it('thaws on time, by its guardian, a tree whose callback blocks the event loop', () =>
    scene(version, async ({ counter, options, state }) => {
      let before: bigint | undefined;
      let after: bigint | undefined;
      const blocking = whileFrozen({ ...options, maxFrozenMs: 500 }, () => {
        [before] = counter.read();
        block(1.5);
        [after] = counter.read();
      });
      await expect(blocking).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
      expect(after).toBeGreaterThan(before!);
      expect(state.log()).toMatch(
        new RegExp(`owner ${process.pid} did not thaw in time; thawed cgroup ${options.cgroup}\n`),
      );
      // A callback that is in time has its guardian idle, even with the loop blocked.
      const { result } = await whileFrozen({ ...options, maxFrozenMs: 60_000 }, () => block(0.1) ?? 'in time');
      expect(result).toBe('in time');
    }));

  it('gives what a late callback threw as the cause of the deadline', () =>
    scene(version, async ({ options }) => {
      const mine = new Error('mine');
      const late = whileFrozen({ ...options, maxFrozenMs: 500 }, () => {
        block(1);
        throw mine;
      });
      await expect(late).rejects.toMatchObject({
        code: 'DEADLINE_EXCEEDED',
        facts: { phase: 'callback' },
        cause: mine,
      });
    }));

  it("rejects with the signal's reason: before anything is touched, and in the callback", () =>
    scene(version, async ({ options, counter, state }) => {
      const reason = new Error('enough');
      const phases: string[] = [];
      let called = false;
      const early = whileFrozen(
        { ...options, signal: AbortSignal.abort(reason), onProgress: ({ phase }) => phases.push(phase) },
        () => (called = true),
      );
      await expect(early).rejects.toBe(reason);
      expect([called, phases, state.journals()]).toEqual([false, [], []]);
      const caller = new AbortController();
      let frozen: Frozen | undefined;
      const cancelled = whileFrozen({ ...options, signal: caller.signal }, (given) => {
        frozen = given;
        caller.abort(reason);
        return forEver();
      });
      await expect(cancelled).rejects.toBe(reason);
      expect(frozen?.signal.reason).toBe(reason);
      expect(await counter.goesOn()).toBe(true);
    }));

  it('leaves a cgroup frozen that was found frozen', () =>
    scene(version, async ({ cgroup, counter, options }) => {
      cgroup.wish(true);
      const { foundFrozen } = await whileFrozen(options, () => undefined);
      expect(foundFrozen).toBe(true);
      expect(await counter.standsStill()).toBe(true);
      await expect(whileFrozen({ ...options, maxFrozenMs: 30 }, forEver)).rejects.toMatchObject({
        code: 'DEADLINE_EXCEEDED',
      });
      await expect(whileFrozen({ ...options, maxFrozenMs: 30 }, () => block(0.2))).rejects.toMatchObject({
        code: 'DEADLINE_EXCEEDED',
      });
      expect(await counter.standsStill()).toBe(true);
      cgroup.wish(false);
    }));

  it('freezes nested cgroups, and refuses below a frozen ancestor', () =>
    withCgroup(version, async (outer) => {
      using state = endsWithTest(new TestState());
      const middle = outer.child('middle');
      const inner = middle.child('inner');
      await using first = await spawnCounter();
      await using second = await spawnCounter();
      middle.add(first.pid);
      inner.add(second.pid);
      const options = { cgroup: middle.path, stateDir: state.dir };
      const { pids, pid } = await whileFrozen(options, async ({ pids }) => {
        expect(await Promise.all([first.standsStill(), second.standsStill()])).toEqual([true, true]);
        return pids;
      });
      expect(pid).toBeUndefined();
      expect(pids.sort()).toEqual([first.pid, second.pid].sort());
      expect(await Promise.all([first.goesOn(), second.goesOn()])).toEqual([true, true]);
      outer.wish(true);
      await expect(whileFrozen(options, () => undefined)).rejects.toMatchObject({
        code: 'ANCESTOR_FROZEN',
        facts: { path: outer.path },
      });
      outer.wish(false);
      expect(state.journals()).toEqual([]);
    }));

  it('notices when somebody else thaws the tree', () =>
    scene(version, async ({ cgroup, options }) => {
      await expect(whileFrozen(options, () => cgroup.wish(false))).rejects.toMatchObject({ code: 'THAWED_BY_OTHERS' });
    }));

  it('has one at a time, whoever names the target by pid and whoever by its cgroup, and no checkpoint beside it', () =>
    scene(version, async ({ cgroup, options, state, counter }) => {
      const { pid, ...byCgroup } = options;
      const output = state.path('out.tar');
      const busy = { code: 'TARGET_BUSY', facts: { holder: { pid: process.pid, cgroup: cgroup.path } } };
      await whileFrozen(options, async () => {
        await expect(whileFrozen(options, () => undefined)).rejects.toMatchObject(busy);
        await expect(whileFrozen(byCgroup, () => undefined)).rejects.toMatchObject(busy);
        await expect(checkpoint({ ...options, output })).rejects.toMatchObject(busy);
        expect(await counter.standsStill()).toBe(true);
      });
      await whileFrozen(byCgroup, async () => {
        await expect(whileFrozen(options, () => undefined)).rejects.toMatchObject(busy);
        await expect(whileFrozen(byCgroup, () => undefined)).rejects.toMatchObject({
          ...busy,
          message: expect.stringMatching(
            `^cgroup ${cgroup.path} is already being checkpointed or held frozen`,
          ) as string,
        });
        await expect(checkpoint({ ...options, output })).rejects.toMatchObject(busy);
      });
      expect(pid).toBe(counter.pid);
    }));

  it('is refused beside a checkpoint of the same tree', async () => {
    using state = endsWithTest(new TestState());
    await using writer = await BusyWriter.start(version);
    const beside: Promise<unknown>[] = [];
    await checkpoint({
      pid: writer.pid,
      output: writer.path('out.tar'),
      stateDir: state.dir,
      onProgress: ({ phase, at }) => {
        if (phase !== 'freeze' || at !== 'end') return;
        for (const target of [{ pid: writer.pid }, { cgroup: writer.cgroup.path }])
          beside.push(
            whileFrozen({ ...target, stateDir: state.dir }, () => undefined).catch((error: unknown) => error),
          );
      },
    });
    expect(await Promise.all(beside)).toMatchObject([{ code: 'TARGET_BUSY' }, { code: 'TARGET_BUSY' }]);
    expect(await writer.isWell()).toMatchObject({ goesOn: true, mismatches: 0 });
  });

  it('adopts a tree that shares its cgroup, and gives it back', () =>
    withCgroup(version, async (cgroup) => {
      using state = endsWithTest(new TestState());
      await using one = await spawnCounter();
      await using other = await spawnCounter();
      for (const { pid } of [one, other]) cgroup.add(pid);
      const options = { pid: one.pid, cgroupVersion: version === 'v1' ? 1 : 2, stateDir: state.dir } as const;
      await expect(whileFrozen(options, () => undefined)).rejects.toMatchObject({ code: 'CGROUP_HAS_STRANGERS' });
      await expect(
        whileFrozen({ ...options, adopt: true }, async (frozen) => {
          expect(frozen.cgroup.path).toMatch(`${cgroup.path}/stillframe-${one.pid}-`);
          expect(await one.standsStill()).toBe(true);
          expect(await other.goesOn()).toBe(true);
          throw new Error('mine');
        }),
      ).rejects.toThrow('mine');
      expect(cgroup.pids().sort()).toEqual([one.pid, other.pid].sort());
      expect(await one.goesOn()).toBe(true);
      expect(state.journals()).toEqual([]);
    }));

  it('refuses a cgroup that this process is in, or its guardian', () =>
    withCgroup(version, async (cgroup) => {
      using state = endsWithTest(new TestState());
      const script = `
        import { whileFrozen } from ${JSON.stringify(new URL('../../../dist/src/index.js', import.meta.url).href)};
        const { code } = await whileFrozen(${JSON.stringify({ cgroup: cgroup.path, stateDir: state.dir })}, () => {}).catch((e) => e);
        console.log(code);`;
      const child = spawn(
        'sh',
        [
          '-c',
          'echo $$ > "$0/cgroup.procs" && exec "$@"',
          cgroup.path,
          process.execPath,
          '--input-type=module',
          '-e',
          script,
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      );
      endsWithTest({ [Symbol.asyncDispose]: () => endChild(child) });
      let said = '';
      child.stdout.on('data', (data: Buffer) => (said += data.toString()));
      await until(() => said.includes('\n'), 60_000);
      expect(said).toBe('CGROUP_HOLDS_CALLER\n');
      await expect(
        whileFrozen({ cgroup: cgroup.path, placeGuardianIn: cgroup.path, stateDir: state.dir }, () => undefined),
      ).rejects.toMatchObject({ code: 'BAD_OPTION', facts: { option: 'placeGuardianIn' } });
      expect(state.journals()).toEqual([]);
    }));

  it('says what failed when the thaw fails as well', () =>
    withCgroup(version, async (outer) => {
      using state = endsWithTest(new TestState());
      const inner = outer.child('inner');
      await using counter = await spawnCounter();
      inner.add(counter.pid);
      const mine = new Error('mine');
      const failed: unknown = await whileFrozen({ pid: counter.pid, stateDir: state.dir, thawTimeoutMs: 100 }, () => {
        outer.wish(true); // somebody else's freeze, which no thaw of ours can end
        throw mine;
      }).catch((error: unknown) => error);
      expect(failed).toMatchObject({
        code: 'LEFT_FROZEN',
        cause: { errors: [mine, { code: 'THAW_BLOCKED_BY_ANCESTOR' }] },
      });
      outer.wish(false);
      expect(await counter.goesOn()).toBe(true);
    }));
});

describe('whileFrozen', () => {
  it('refuses what is no target, no callback or no option, before anything is touched', async () => {
    const call = whileFrozen as unknown as (options: object, callback?: unknown) => Promise<unknown>;
    const nothing = (): void => undefined;
    const cgroup = makeTestCgroup(freezerVersions()[0]!);
    for (const [options, option] of [
      [{}, 'pid, cgroup, runc, crun, podman'],
      [{ pid: 0 }, 'pid'],
      [{ pid: 'init' }, 'pid'],
      [{ cgroup: '' }, 'cgroup'],
      [{ pid: 1, podman: 'web' }, 'pid, cgroup'],
      [{ podman: 'web', runc: 'c1' }, 'runc, crun, podman'],
      [{ pid: process.ppid, maxFrozenMs: -1 }, 'maxFrozenMs'],
      [{ pid: process.ppid, maxFrozen: 5 }, 'maxFrozen'],
      [{ pid: process.ppid, cgroup: cgroup.path, adopt: true }, 'adopt'],
    ] as const)
      await expect(call(options, nothing), option).rejects.toMatchObject({ code: 'BAD_OPTION', facts: { option } });
    await expect(call({ pid: process.ppid })).rejects.toMatchObject({ facts: { option: 'callback' } });
    await expect(call({ pid: process.pid }, nothing)).rejects.toMatchObject({ code: 'TARGET_IS_SELF' });
  });
});

describe.each(freezerVersions())('onFrozen of a checkpoint, cgroup %s', (version) => {
  it('is called while the tree stands still, and its time is part of the window', { timeout: 240_000 }, async () => {
    using state = endsWithTest(new TestState());
    await using writer = await BusyWriter.start(version);
    const calls: Frozen[] = [];
    const target = {
      pid: writer.pid,
      files: [{ path: writer.data, name: 'data' }],
      output: writer.path('out.tar'),
      maxFrozenMs: 50_000,
      stateDir: state.dir,
    };
    const { windowMs, window } = await checkpoint({
      ...target,
      onFrozen: async (frozen) => {
        calls.push(frozen);
        const before = writer.tryStatus()?.steps;
        await sleep(250);
        expect(writer.tryStatus()?.steps).toEqual(before);
      },
    });
    expect(calls).toMatchObject([{ pid: writer.pid, cgroup: { path: writer.cgroup.path } }]);
    expect([...calls[0]!.pids].sort()).toEqual([...writer.pids].sort());
    expect(window.callbackMs).toBeGreaterThan(245);
    expect(Object.values(window).reduce((sum, ms) => sum + ms)).toBeCloseTo(windowMs, 6);
    expect(await verify(target.output)).toBeDefined();
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(state.journals()).toEqual([]);
  });

  it.each([
    ['fails', 50_000, { message: 'mine' }],
    ['is late', 400, { code: 'DEADLINE_EXCEEDED', facts: { phase: 'dump and callback' } }],
    ['blocks', 400, { code: 'DEADLINE_EXCEEDED' }],
  ])('fails the checkpoint and leaves no archive when it %s', { timeout: 240_000 }, async (how, maxFrozenMs, error) => {
    using state = endsWithTest(new TestState());
    await using writer = await BusyWriter.start(version);
    const output = writer.path('out.tar');
    let frozen: Frozen | undefined;
    const failing = checkpoint({
      pid: writer.pid,
      output,
      maxFrozenMs,
      stateDir: state.dir,
      onFrozen: (given) => {
        frozen = given;
        if (how === 'fails') throw new Error('mine');
        if (how === 'blocks') return block(1);
        return forEver();
      },
    });
    await expect(failing).rejects.toMatchObject(error);
    expect(frozen?.signal.aborted).toBe(true);
    expect(writer.leftovers()).toEqual([]);
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(state.journals()).toEqual([]);
  });
});
