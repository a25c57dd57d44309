import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Journal } from '../../../src/checkpoint/guardian/journal.js';
import { lockCgroup, lockTarget } from '../../../src/checkpoint/guardian/lock.js';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { spawnCounter, until } from '../../fixtures/processes.js';
import { isRunning, killOwner, numberOf, startOwner, TestState } from './owner.js';

describe.each(freezerVersions())('the lock, cgroup %s', (version) => {
  const number = numberOf(version);

  it('refuses a second checkpoint of the cgroup, its ancestor or its descendant at once, and says who holds it', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using one = await spawnCounter();
      await using other = await spawnCounter();
      const middle = cgroup.child('middle');
      const inner = middle.child('inner');
      const sibling = cgroup.child('sibling');
      const held = await lockTarget({
        pid: one.pid,
        cgroup: { version: number, path: middle.path },
        stateDir: state.dir,
      });
      for (const { path } of [cgroup, middle, inner]) {
        const start = performance.now();
        await expect(
          lockTarget({ pid: other.pid, cgroup: { version: number, path }, stateDir: state.dir }),
        ).rejects.toMatchObject({
          code: 'TARGET_BUSY',
          facts: {
            cgroup: path,
            holder: { pid: process.pid, since: held.entry.since, targetPid: one.pid, cgroup: middle.path },
          },
        });
        expect(performance.now() - start).toBeLessThan(500);
      }
      const beside = await lockTarget({
        pid: other.pid,
        cgroup: { version: number, path: sibling.path },
        stateDir: state.dir,
      });
      beside.remove();
      held.remove();
      const next = await lockTarget({
        pid: other.pid,
        cgroup: { version: number, path: inner.path },
        stateDir: state.dir,
      });
      next.remove();
      expect(state.journals()).toEqual([]);
    }));

  it("is another process's too, and does not hold once that process is dead", () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      const wanted = { pid: counter.pid, cgroup: { version: number, path: cgroup.path }, stateDir: state.dir };
      const owner = await startOwner({ ...wanted, guardian: false });
      await expect(lockTarget(wanted)).rejects.toMatchObject({
        code: 'TARGET_BUSY',
        facts: { holder: { pid: owner.pid } },
      });
      await killOwner(owner);
      using lock = await lockTarget(wanted);
      expect(state.journals()).toHaveLength(1);
      expect(lock.entry.lock).toBe('held');
    }));

  it('waits for the guardian of a dead holder, and goes on where it has finished', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      const wanted = { pid: counter.pid, cgroup: { version: number, path: cgroup.path }, stateDir: state.dir };
      const owner = await startOwner({ ...wanted, freeze: true, criu: ['sleep', '60'], criuTimeoutMs: 400 });
      await killOwner(owner);
      expect(isRunning(owner.guardian)).toBe(true);
      using lock = await lockTarget(wanted);
      expect(lock.entry.lock).toBe('held');
      expect(isRunning(owner.criu)).toBe(false);
      expect(await counter.goesOn()).toBe(true);
    }));

  it('thaws first what a holder left frozen that was killed with its guardian', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      const wanted = { pid: counter.pid, cgroup: { version: number, path: cgroup.path }, stateDir: state.dir };
      const owner = await startOwner({ ...wanted, freeze: true });
      process.kill(owner.guardian, 'SIGKILL');
      await killOwner(owner);
      expect(await counter.standsStill()).toBe(true);
      using lock = await lockTarget(wanted);
      expect(lock.entry.lock).toBe('held');
      expect(await counter.goesOn()).toBe(true);
    }));
});

describe('the lock', () => {
  it('is won by exactly one of many that ask at the same time, in several processes', async () => {
    using state = new TestState();
    await using counter = await spawnCounter();
    for (let round = 0; round < 20; round++) {
      const tries = await Promise.allSettled(
        Array.from({ length: 10 }, () => lockTarget({ pid: counter.pid, stateDir: state.dir })),
      );
      const won = tries.filter((result) => result.status === 'fulfilled');
      expect(won).toHaveLength(1);
      for (const result of tries)
        if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'TARGET_BUSY' });
      won[0]?.value.remove();
    }
    const owners = await Promise.allSettled(
      Array.from({ length: 6 }, () => startOwner({ pid: counter.pid, stateDir: state.dir, guardian: false })),
    );
    expect(owners.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
    for (const result of owners) {
      if (result.status === 'fulfilled') await killOwner(result.value);
      else expect(String(result.reason)).toContain('TARGET_BUSY');
    }
  });

  it('is taken for the tree before the cgroup that will be made for it is known', () =>
    withCgroup(freezerVersions()[0] as 'v1' | 'v2', async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      await using other = await spawnCounter();
      const place = { version: numberOf(cgroup.version), path: cgroup.path };
      using lock = await lockTarget({ pid: counter.pid, stateDir: state.dir });
      await expect(lockTarget({ pid: counter.pid, stateDir: state.dir })).rejects.toMatchObject({
        code: 'TARGET_BUSY',
      });
      await lockCgroup(lock, place, { stateDir: state.dir });
      await expect(lockTarget({ pid: other.pid, cgroup: place, stateDir: state.dir })).rejects.toMatchObject({
        code: 'TARGET_BUSY',
      });
    }));

  it('removes the journal of a process that died before it had touched anything, whatever its target', async () => {
    using state = new TestState();
    await using counter = await spawnCounter();
    await using other = await spawnCounter();
    await killOwner(await startOwner({ pid: other.pid, stateDir: state.dir, guardian: false }));
    expect(state.journals()).toHaveLength(1);
    using lock = await lockTarget({ pid: counter.pid, stateDir: state.dir });
    expect(state.journals()).toEqual([basename(lock.path)]);
  });

  it('names a process that is gone', async () => {
    using state = new TestState();
    await expect(lockTarget({ pid: 2 ** 22 - 1, stateDir: state.dir })).rejects.toMatchObject({ code: 'TARGET_GONE' });
    expect(state.journals()).toEqual([]);
  });

  it('takes no state directory that others can enter, that is a link, or that is a file', async () => {
    using state = new TestState();
    const open = state.path('open');
    mkdirSync(open, { mode: 0o755 });
    chmodSync(open, 0o755);
    symlinkSync(open, state.path('link'));
    writeFileSync(state.path('file'), '');
    for (const [name, why] of [
      ['open', 'has mode 755'],
      ['link', 'is not a directory'],
      ['file', 'is not a directory'],
      ['missing/deeper', 'cannot be made'],
    ] as const) {
      await expect(lockTarget({ pid: process.pid, stateDir: state.path(name) })).rejects.toMatchObject({
        code: 'STATE_DIR_UNSAFE',
        facts: { why: expect.stringContaining(why) },
      });
    }
  });

  it('is whole at every moment: a journal that is being rewritten can be read', async () => {
    using state = new TestState();
    await using counter = await spawnCounter();
    using journal = await lockTarget({ pid: counter.pid, stateDir: state.dir });
    const read = await import('../../../src/checkpoint/guardian/journal.js');
    for (let i = 0; i < 200; i++) {
      journal.update({ removals: Array.from({ length: i }, (_, n) => join('/tmp', `.stillframe-${n}`)) });
      expect(read.readJournals(state.dir).map(({ entry }) => entry.removals.length)).toEqual([i]);
    }
    expect(journal).toBeInstanceOf(Journal);
    expect(await until(() => state.journals().length === 1)).toBe(true);
  });
});
