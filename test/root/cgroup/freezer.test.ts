import { rmdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { openFreezer } from '../../../src/cgroup/index.js';
import { freezerVersions, makeTestCgroup } from '../../fixtures/cgroup.js';
import { mountDeafFileSystem, spawnCounter, until } from '../../fixtures/processes.js';
import { failure } from './failure.js';

describe.each(freezerVersions())('the freezer of cgroup %s', (version) => {
  async function filled() {
    const parent = makeTestCgroup(version);
    const cgroup = parent.child('job');
    const counter = await spawnCounter();
    cgroup.add(counter.pid);
    const freezer = openFreezer({ cgroup: cgroup.path });
    return {
      parent,
      cgroup,
      counter,
      freezer,
      async [Symbol.asyncDispose]() {
        await parent[Symbol.asyncDispose]();
        await counter[Symbol.asyncDispose]();
      },
    };
  }

  describe('thawed', () => {
    test('state() says thawed, and the task runs', async () => {
      await using t = await filled();
      expect(t.freezer.state()).toEqual({ selfFrozen: false, frozenAncestor: undefined, frozen: false });
      expect(await t.counter.goesOn()).toBe(true);
    });

    test('freeze() stops the task by the time it resolves, and thaw() sets it going', async () => {
      await using t = await filled();
      await t.freezer.freeze();
      expect(t.freezer.state()).toEqual({ selfFrozen: true, frozenAncestor: undefined, frozen: true });
      expect(await t.counter.standsStill()).toBe(true);
      await t.freezer.thaw();
      expect(t.freezer.state()).toEqual({ selfFrozen: false, frozenAncestor: undefined, frozen: false });
      expect(await t.counter.goesOn()).toBe(true);
    });

    test('thaw() of what runs changes nothing', async () => {
      await using t = await filled();
      await t.freezer.thaw();
      expect(t.freezer.state().frozen).toBe(false);
      expect(await t.counter.goesOn()).toBe(true);
    });

    test('an empty cgroup freezes and thaws as well', async () => {
      await using cgroup = makeTestCgroup(version);
      const freezer = openFreezer({ cgroup: cgroup.path });
      await freezer.freeze();
      expect(freezer.state().frozen).toBe(true);
      await freezer.thaw();
      expect(freezer.state().frozen).toBe(false);
    });

    test('freeze() with an aborted signal touches nothing', async () => {
      await using t = await filled();
      const error = await failure(t.freezer.freeze({ signal: AbortSignal.abort(new Error('enough')) }));
      expect(error.code).toBe('FREEZE_ABORTED');
      expect(error.facts).toMatchObject({ after: 'untouched', tasks: [] });
      expect(error.cause).toEqual(new Error('enough'));
      expect(t.freezer.state().selfFrozen).toBe(false);
    });

    test.each([-1, NaN, Infinity, '5' as unknown as number])(
      'freeze() refuses a timeoutMs of %s',
      async (timeoutMs) => {
        await using t = await filled();
        expect((await failure(t.freezer.freeze({ timeoutMs }))).code).toBe('BAD_OPTION');
        expect(t.freezer.state().selfFrozen).toBe(false);
      },
    );
  });

  describe('freezing: one task cannot be stopped', () => {
    async function stuck() {
      const deaf = mountDeafFileSystem();
      const first = await spawnCounter({ mode: 'ask', path: `${deaf.path}/x`, count: 1 });
      first.child.stdin?.write('\n');
      await until(() => first.read()[0] === 2n);
      const second = await spawnCounter({ mode: 'ask', path: `${deaf.path}/y`, count: 2 });
      second.child.stdin?.write('\n');
      await until(() => second.read()[0] === 2n);
      const t = await filled();
      t.cgroup.add(second.pid);
      return {
        ...t,
        blocked: second.pid,
        async [Symbol.asyncDispose]() {
          deaf[Symbol.dispose]();
          await t[Symbol.asyncDispose]();
          await first[Symbol.asyncDispose]();
          await second[Symbol.asyncDispose]();
        },
      };
    }

    test('freeze() gives up in time, names the task, and has thawed the others', async () => {
      await using t = await stuck();
      const started = performance.now();
      const error = await failure(t.freezer.freeze({ timeoutMs: 150 }));
      expect(performance.now() - started).toBeLessThan(1000);
      expect(error.code).toBe('FREEZE_TIMEOUT');
      expect(error.facts).toMatchObject({ path: t.cgroup.path, timeoutMs: 150, after: 'thawed' });
      const { tasks } = error.facts as {
        tasks: { pid: number; tid: number; name: string; state: string; wchan: string; stack: string[] }[];
      };
      expect(tasks.map((task) => task.pid)).toEqual([t.blocked]);
      expect(tasks[0]).toMatchObject({ tid: t.blocked, state: 'D' });
      expect(tasks[0]?.name).toMatch(/^tasks-/);
      expect(tasks[0]?.stack.join()).toMatch(/rwsem|mkdir/);
      expect(error.message).toContain(`pid ${t.blocked}`);
      expect(t.freezer.state()).toEqual({ selfFrozen: false, frozenAncestor: undefined, frozen: false });
      expect(await t.counter.goesOn()).toBe(true);
    });

    test('an abort ends freeze() at once, thawed', async () => {
      await using t = await stuck();
      const started = performance.now();
      const error = await failure(t.freezer.freeze({ timeoutMs: 30_000, signal: AbortSignal.timeout(50) }));
      expect(performance.now() - started).toBeLessThan(1000);
      expect(error.code).toBe('FREEZE_ABORTED');
      expect(error.facts).toMatchObject({ after: 'thawed', tasks: [{ pid: t.blocked }] });
      expect(await t.counter.goesOn()).toBe(true);
    });

    test('freeze() that fails leaves a cgroup self-frozen that was so before', async () => {
      await using t = await stuck();
      t.cgroup.wish(true);
      const error = await failure(t.freezer.freeze({ timeoutMs: 50 }));
      expect(error.facts).toMatchObject({ after: 'was-self-frozen' });
      expect(t.freezer.state()).toEqual({ selfFrozen: true, frozenAncestor: undefined, frozen: false });
      expect(await t.counter.standsStill()).toBe(true);
    });

    test('state() says self-frozen and not frozen', async () => {
      await using t = await stuck();
      t.cgroup.wish(true);
      expect(t.freezer.state()).toEqual({ selfFrozen: true, frozenAncestor: undefined, frozen: false });
    });

    test('thaw() sets the others going', async () => {
      await using t = await stuck();
      t.cgroup.wish(true);
      await t.freezer.thaw();
      expect(t.freezer.state().selfFrozen).toBe(false);
      expect(await t.counter.goesOn()).toBe(true);
    });
  });

  describe('self-frozen', () => {
    test('freeze() resolves and it stays frozen', async () => {
      await using t = await filled();
      t.cgroup.wish(true);
      await t.freezer.freeze();
      expect(t.freezer.state()).toEqual({ selfFrozen: true, frozenAncestor: undefined, frozen: true });
      expect(await t.counter.standsStill()).toBe(true);
    });

    test('thaw() sets the task going', async () => {
      await using t = await filled();
      t.cgroup.wish(true);
      expect(await t.counter.standsStill()).toBe(true);
      await t.freezer.thaw();
      expect(await t.counter.goesOn()).toBe(true);
    });
  });

  describe('ancestor-frozen', () => {
    test('state() names the ancestor', async () => {
      await using t = await filled();
      t.parent.wish(true);
      await until(() => t.freezer.state().frozen);
      expect(t.freezer.state()).toEqual({ selfFrozen: false, frozenAncestor: t.parent.path, frozen: true });
    });

    test('freeze() adds its own wish, which holds when the ancestor thaws', async () => {
      await using t = await filled();
      t.parent.wish(true);
      await t.freezer.freeze();
      expect(t.freezer.state()).toEqual({ selfFrozen: true, frozenAncestor: t.parent.path, frozen: true });
      t.parent.wish(false);
      expect(await t.counter.standsStill()).toBe(true);
      expect(t.freezer.state()).toEqual({ selfFrozen: true, frozenAncestor: undefined, frozen: true });
    });

    test('thaw() takes its own wish back and says which ancestor holds it', async () => {
      await using t = await filled();
      t.cgroup.wish(true);
      t.parent.wish(true);
      const error = await failure(t.freezer.thaw());
      expect(error.code).toBe('THAW_BLOCKED_BY_ANCESTOR');
      expect(error.facts).toEqual({ path: t.cgroup.path, ancestor: t.parent.path });
      expect(await t.counter.standsStill()).toBe(true);
      t.parent.wish(false);
      expect(await t.counter.goesOn()).toBe(true);
    });

    test('thaw() of the ancestor leaves a self-frozen cgroup below it frozen', async () => {
      await using t = await filled();
      t.cgroup.wish(true);
      const above = openFreezer({ cgroup: t.parent.path });
      await above.freeze();
      await above.thaw();
      expect(above.state().frozen).toBe(false);
      expect(t.freezer.state()).toEqual({ selfFrozen: true, frozenAncestor: undefined, frozen: true });
      expect(await t.counter.standsStill()).toBe(true);
    });
  });

  describe('removed', () => {
    test('every method says that the cgroup is gone', async () => {
      await using cgroup = makeTestCgroup(version);
      const freezer = openFreezer({ cgroup: cgroup.path });
      rmdirSync(cgroup.path);
      expect((await failure(() => freezer.state())).code).toBe('CGROUP_GONE');
      expect((await failure(freezer.freeze())).code).toBe('CGROUP_GONE');
      expect((await failure(freezer.thaw())).code).toBe('CGROUP_GONE');
    });
  });

  test('freezes a thousand tasks, each of which stands still, and sets all of them going', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'threads', count: 1000 });
    cgroup.add(counter.pid);
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze();
    expect(await counter.standsStill()).toBe(true);
    await freezer.thaw();
    expect(await counter.goesOn()).toBe(true);
  }, 30_000);
});
