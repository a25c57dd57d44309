import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFreezer } from '../../../src/cgroup/index.js';
import { Guardian } from '../../../src/checkpoint/guardian/guardian.js';
import { lockTarget } from '../../../src/checkpoint/guardian/lock.js';
import { runningPids } from '../../../src/checkpoint/base/pids.js';
import { freezerVersions, withCgroup, type TestCgroup } from '../../fixtures/cgroup.js';
import { spawnCounter, until, type Counter } from '../../fixtures/processes.js';
import { isRunning, killOwner, killParentOfThree, numberOf, parentOfThree, startOwner, TestState } from './owner.js';

/** A counter in a cgroup of its own, and a state directory. */
async function scene(
  version: 'v1' | 'v2',
  play: (scene: { cgroup: TestCgroup; counter: Counter; state: TestState }) => Promise<void>,
): Promise<void> {
  using state = new TestState();
  await withCgroup(version, async (cgroup) => {
    await using counter = await spawnCounter();
    cgroup.add(counter.pid);
    await play({ cgroup, counter, state });
  });
}

describe.each(freezerVersions())('the guardian, cgroup %s', (version) => {
  const number = numberOf(version);

  it('thaws, cleans up and goes when its owner is killed in the window', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const dir = state.path('.stillframe-images');
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
        make: [dir],
      });
      expect(await counter.standsStill()).toBe(true);
      expect(existsSync(dir)).toBe(true);
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(await counter.goesOn()).toBe(true);
      expect(openFreezer({ cgroup: cgroup.path }).state()).toEqual({
        selfFrozen: false,
        frozenAncestor: undefined,
        frozen: false,
      });
      expect(existsSync(dir)).toBe(false);
      expect(state.journals()).toEqual([]);
      expect(state.log()).toMatch(
        new RegExp(`owner ${owner.pid} is gone; thawed cgroup ${cgroup.path}; removed .stillframe-images\n`),
      );
    }));

  it('leaves a cgroup frozen that was frozen before', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      cgroup.wish(true);
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
      });
      // As CRIU does for its dump: killed in the middle, it leaves the cgroup thawed.
      cgroup.wish(false);
      expect(await counter.goesOn()).toBe(true);
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(await counter.standsStill()).toBe(true);
      expect(state.log()).toContain('left frozen, as found');
    }));

  it('leaves the freezer alone when the window was never opened', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
      });
      cgroup.wish(true); // somebody else's
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(await counter.standsStill()).toBe(true);
    }));

  it('kills a CRIU that does not end within the bound, then thaws', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
        criu: ['sleep', '60'],
        criuTimeoutMs: 200,
      });
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(isRunning(owner.criu)).toBe(false);
      expect(await counter.goesOn()).toBe(true);
      expect(state.log()).toContain(`killed criu ${owner.criu}, which did not end within 200 ms`);
    }));

  it('ends what a killed CRIU has left waiting for it, and nobody else', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const dir = state.path('.stillframe-images');
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
        make: [dir],
        criu: parentOfThree(dir),
      });
      const [own, elsewhere, alone] = (await killParentOfThree(owner.criu)) as [number, number, number];
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 5000)).toBe(true);
      expect(await until(() => !isRunning(own))).toBe(true);
      expect([elsewhere, alone].map(isRunning)).toEqual([true, true]);
      for (const pid of [elsewhere, alone]) process.kill(pid, 'SIGKILL');
      expect(state.log()).toContain(`killed process ${own}, which criu ${owner.criu} had left`);
      expect(await counter.goesOn()).toBe(true);
      expect(state.journals()).toEqual([]);
    }));

  it('lets a stopped CRIU go on, so that it can undo its work', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const witness = state.path('undone');
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
        criu: ['sh', '-c', `kill -STOP $$; echo undone > ${witness}`],
      });
      await until(() => readFileSync(`/proc/${owner.criu}/stat`, 'latin1').includes(') T '), 2000);
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(readFileSync(witness, 'utf8')).toBe('undone\n');
      expect(await counter.goesOn()).toBe(true);
    }));

  it('thaws after a CRIU that puts the freeze back at its end', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const wish =
        version === 'v1' ? `echo FROZEN > ${cgroup.path}/freezer.state` : `echo 1 > ${cgroup.path}/cgroup.freeze`;
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
        criu: ['sh', '-c', `sleep 0.3; ${wish}`],
      });
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(await counter.goesOn()).toBe(true);
      expect(openFreezer({ cgroup: cgroup.path }).state().selfFrozen).toBe(false);
    }));

  it('takes its wish back and says so when an ancestor is frozen', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const child = cgroup.child('inner');
      child.add(counter.pid);
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: child.path },
        stateDir: state.dir,
        freeze: true,
      });
      cgroup.wish(true);
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 3000)).toBe(true);
      expect(state.log()).toContain('which an ancestor keeps frozen');
      cgroup.wish(false);
      expect(await counter.goesOn()).toBe(true);
    }));

  it('gives an adopted tree back and removes its cgroup', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const adopted = cgroup.child('adopted');
      adopted.add(counter.pid);
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: adopted.path, adoptedFrom: cgroup.path },
        stateDir: state.dir,
        freeze: true,
      });
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 3000)).toBe(true);
      expect(existsSync(adopted.path)).toBe(false);
      expect(cgroup.pids()).toContain(counter.pid);
      expect(await counter.goesOn()).toBe(true);
    }));

  it('gives each process of an adopted tree back to its own cgroup, and what it has forked since with it', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      await using family = await spawnCounter({ count: 2 });
      const [adopted, elsewhere] = [cgroup.child('adopted'), cgroup.child('elsewhere')];
      const pids = runningPids(family.pid);
      expect(pids.length).toBeGreaterThan(1);
      for (const pid of [counter.pid, ...pids]) adopted.add(pid);
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: adopted.path, adoptedFrom: cgroup.path },
        stateDir: state.dir,
        freeze: true,
        homes: [{ pid: family.pid, directory: elsewhere.path }],
      });
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 3000)).toBe(true);
      expect(existsSync(adopted.path)).toBe(false);
      expect(cgroup.pids()).toEqual([counter.pid]);
      expect(elsewhere.pids().sort()).toEqual(pids.sort());
    }));

  it('gives a process whose own cgroup is gone to that of the root', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const adopted = cgroup.child('adopted');
      adopted.add(counter.pid);
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: adopted.path, adoptedFrom: cgroup.path },
        stateDir: state.dir,
        homes: [{ pid: counter.pid, directory: join(cgroup.path, 'removed') }],
      });
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 3000)).toBe(true);
      expect(cgroup.pids()).toEqual([counter.pid]);
    }));

  it('removes the empty cgroup of an adoption that came no further', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const newCgroup = join(cgroup.path, 'stillframe-1-0');
      const owner = await startOwner({ pid: counter.pid, stateDir: state.dir, newCgroup });
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 3000)).toBe(true);
      expect(existsSync(newCgroup)).toBe(false);
      expect(state.journals()).toEqual([]);
    }));

  it('ends when the cgroup was removed meanwhile', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const child = cgroup.child('inner');
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: child.path },
        stateDir: state.dir,
        freeze: true,
      });
      await child[Symbol.asyncDispose]();
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(state.log()).toContain(`cgroup ${child.path} is gone`);
      expect(state.journals()).toEqual([]);
    }));

  it('stands in the cgroup it was placed in', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const place = cgroup.child('guardians');
      const journal = await lockTarget({ pid: counter.pid, stateDir: state.dir });
      await using guardian = await Guardian.arm({ journal, placeGuardianIn: place.path });
      expect(place.pids()).toEqual([guardian.pid]);
    }));
});

describe('the guardian', () => {
  const version = freezerVersions()[0] as 'v1' | 'v2';
  const number = numberOf(version);

  it('outlives the death of its owner and of the whole process group', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
      });
      process.kill(-owner.pid, 'SIGKILL');
      expect(await counter.goesOn()).toBe(true);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
    }));

  it('notices the death although a child of the owner holds the socket', () =>
    scene(version, async ({ cgroup, counter, state }) => {
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        leakSocket: true,
        freeze: true,
      });
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(await counter.goesOn()).toBe(true);
    }));

  it('ignores the signals that end a service, and goes when it is disarmed', () =>
    scene(version, async ({ counter, state }) => {
      const journal = await lockTarget({ pid: counter.pid, stateDir: state.dir });
      const guardian = await Guardian.arm({ journal });
      for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1'] as const)
        process.kill(guardian.pid, signal);
      await guardian.openWindow(false);
      guardian.closeWindow();
      expect(guardian.lost).toBeUndefined();
      expect(await guardian.disarm()).toBe('disarmed');
      expect(existsSync(`/proc/${guardian.pid}`)).toBe(false);
      expect(state.log()).toBe('');
    }));

  it('is missed before the freeze when it is dead or stopped', () =>
    scene(version, async ({ counter, state }) => {
      const journal = await lockTarget({ pid: counter.pid, stateDir: state.dir });
      const dead = await Guardian.arm({ journal });
      process.kill(dead.pid, 'SIGKILL');
      await expect(dead.openWindow(false)).rejects.toMatchObject({ code: 'GUARDIAN_LOST' });
      expect(await dead.disarm()).toBe('lost');
      const stopped = await Guardian.arm({ journal });
      process.kill(stopped.pid, 'SIGSTOP');
      await expect(stopped.openWindow(false)).rejects.toMatchObject({ code: 'GUARDIAN_LOST' });
      process.kill(stopped.pid, 'SIGCONT');
      expect(await stopped.disarm()).toBe('disarmed');
    }));

  it('follows no link out of a private directory and removes nothing that is not named as ours', () =>
    scene(version, async ({ counter, state }) => {
      const dir = state.path('.stillframe-a');
      const owner = await startOwner({ pid: counter.pid, stateDir: state.dir, make: [dir, state.path('plain')] });
      const outside = state.path('outside');
      mkdirSync(outside);
      writeFileSync(join(outside, 'kept'), '');
      symlinkSync(outside, join(dir, 'images', 'link'));
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(existsSync(dir)).toBe(false);
      expect(existsSync(join(outside, 'kept'))).toBe(true);
      expect(existsSync(state.path('plain'))).toBe(true);
    }));

  it('leaves a link alone that stands where our directory was', () =>
    scene(version, async ({ counter, state }) => {
      const outside = state.path('outside');
      mkdirSync(join(outside, 'images'), { recursive: true });
      const link = state.path('.stillframe-link');
      symlinkSync(outside, link);
      const owner = await startOwner({ pid: counter.pid, stateDir: state.dir, make: [link] });
      await killOwner(owner);
      expect(await until(() => !isRunning(owner.guardian), 2000)).toBe(true);
      expect(lstatSync(link).isSymbolicLink()).toBe(true);
      expect(existsSync(join(outside, 'images', 'pages-1.img'))).toBe(true);
      expect(state.journals(), 'the journal stays for recover').toHaveLength(1);
    }));

  it('refuses to be told of a directory that is not named as ours', () =>
    scene(version, async ({ counter, state }) => {
      const journal = await lockTarget({ pid: counter.pid, stateDir: state.dir });
      await using guardian = await Guardian.arm({ journal });
      guardian.willMake('/home');
      await expect(guardian.openWindow(false)).rejects.toMatchObject({
        code: 'GUARDIAN_REFUSED',
        facts: { record: 'remove /home' },
      });
    }));

  it('needs less than a megabyte', () =>
    scene(version, async ({ counter, state }) => {
      const journal = await lockTarget({ pid: counter.pid, stateDir: state.dir });
      await using guardian = await Guardian.arm({ journal });
      const rss = /VmRSS:\s*(\d+) kB/.exec(readFileSync(`/proc/${guardian.pid}/status`, 'latin1'));
      expect(Number(rss?.[1])).toBeLessThan(1024);
    }));

  it('inherits no descriptor of its owner', () =>
    scene(version, async ({ counter, state }) => {
      const journal = await lockTarget({ pid: counter.pid, stateDir: state.dir });
      await using guardian = await Guardian.arm({ journal });
      // The standard three, the socket, and the owner's pidfd.
      expect(readdirSync(`/proc/${guardian.pid}/fd`).map(Number).sort()).toEqual([0, 1, 2, 3, 4]);
    }));
});
