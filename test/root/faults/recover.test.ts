import { existsSync, mkdirSync, readFileSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openFreezer } from '../../../src/cgroup/index.js';
import { frozenCgroups, recover } from '../../../src/checkpoint/guardian/recover.js';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { spawnCounter, until } from '../../fixtures/processes.js';
import { stillframe } from '../../fixtures/program.js';
import {
  isRunning,
  killOwner,
  killParentOfThree,
  numberOf,
  parentOfThree,
  startOwner,
  TestState,
  type Owner,
  type OwnerPlan,
} from './owner.js';

/** The guardian first: otherwise it would put everything right. */
async function killBoth(owner: Owner): Promise<void> {
  process.kill(owner.guardian, 'SIGKILL');
  await killOwner(owner);
  // A signal is on its way for a moment, on a busy machine for longer.
  if (!(await until(() => !isRunning(owner.guardian), 20_000))) throw new Error('the guardian did not end when killed');
}

describe.each(freezerVersions())('recover, cgroup %s', (version) => {
  const number = numberOf(version);

  it('thaws, kills the left CRIU, removes what was made, and finds nothing the second time', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      const dir = state.path('.stillframe-images');
      const plan: OwnerPlan = {
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
        make: [dir],
        criu: ['sleep', '60'],
      };
      const owner = await startOwner(plan);
      await killBoth(owner);
      expect(await counter.standsStill()).toBe(true);
      const did = await recover({ stateDir: state.dir, criuTimeoutMs: 100 });
      expect(did).toEqual([
        {
          owner: owner.pid,
          pid: counter.pid,
          cgroup: cgroup.path,
          since: expect.stringMatching(/^\d{4}-/),
          did: [
            `killed criu ${owner.criu}, which did not end within 100 ms`,
            `thawed cgroup ${cgroup.path}`,
            'removed .stillframe-images',
          ],
        },
      ]);
      expect(await counter.goesOn()).toBe(true);
      expect(isRunning(owner.criu)).toBe(false);
      expect(existsSync(dir)).toBe(false);
      expect(await recover({ stateDir: state.dir })).toEqual([]);
      expect(state.journals()).toEqual([]);
    }));

  it('ends what a CRIU has left that died long before', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      const dir = state.path('.stillframe-images');
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
        make: [dir],
        criu: parentOfThree(dir),
      });
      const [own, ...others] = (await killParentOfThree(owner.criu)) as [number, ...number[]];
      await killBoth(owner);
      expect(await until(() => !existsSync(`/proc/${owner.criu}`), 20_000), 'reaped by init').toBe(true);
      const [recovery] = await recover({ stateDir: state.dir });
      expect(recovery?.did).toEqual([
        `killed process ${own}, which criu ${owner.criu} had left`,
        `thawed cgroup ${cgroup.path}`,
        'removed .stillframe-images',
      ]);
      expect(others.map(isRunning)).toEqual([true, true]);
      for (const pid of others) process.kill(pid, 'SIGKILL');
      expect(await until(() => !isRunning(own))).toBe(true);
    }));

  it('leaves a cgroup frozen that was found frozen', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      cgroup.wish(true);
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
      });
      await killBoth(owner);
      expect(await recover({ stateDir: state.dir })).toMatchObject([{ did: [expect.stringContaining('left frozen')] }]);
      expect(await counter.standsStill()).toBe(true);
    }));

  it('gives an adopted tree back', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      const adopted = cgroup.child('adopted');
      adopted.add(counter.pid);
      await killBoth(
        await startOwner({
          pid: counter.pid,
          cgroup: { version: number, path: adopted.path, adoptedFrom: cgroup.path },
          stateDir: state.dir,
          freeze: true,
        }),
      );
      await recover({ stateDir: state.dir });
      expect(existsSync(adopted.path)).toBe(false);
      expect(cgroup.pids()).toContain(counter.pid);
      expect(await counter.goesOn()).toBe(true);
    }));

  it('removes the empty cgroup of an adoption that came no further', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      const newCgroup = join(cgroup.path, 'stillframe-1-0');
      await killBoth(await startOwner({ pid: counter.pid, stateDir: state.dir, newCgroup }));
      expect(await recover({ stateDir: state.dir })).toMatchObject([{ did: [`removed cgroup ${newCgroup}`] }]);
      expect(existsSync(newCgroup)).toBe(false);
    }));

  it('does nothing to a checkpoint that is alive', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
      });
      expect(await recover({ stateDir: state.dir })).toEqual([]);
      expect(await counter.standsStill()).toBe(true);
      await killOwner(owner);
      expect(await counter.goesOn()).toBe(true);
    }));

  it('is done once when two ask at the same time', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      await killBoth(
        await startOwner({
          pid: counter.pid,
          cgroup: { version: number, path: cgroup.path },
          stateDir: state.dir,
          freeze: true,
        }),
      );
      const both = await Promise.all([recover({ stateDir: state.dir }), recover({ stateDir: state.dir })]);
      expect(both.flat()).toHaveLength(1);
      expect(await counter.goesOn()).toBe(true);
    }));

  it('does not believe pids and cgroups of an earlier boot', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      const dir = state.path('.stillframe-images');
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: cgroup.path },
        stateDir: state.dir,
        freeze: true,
        make: [dir],
      });
      await killBoth(owner);
      const entry = JSON.parse(readFileSync(owner.journal, 'utf8')) as Record<string, unknown>;
      writeFileSync(owner.journal, JSON.stringify({ ...entry, bootId: 'another' }));
      expect(await recover({ stateDir: state.dir })).toMatchObject([{ did: ['removed .stillframe-images'] }]);
      expect(openFreezer({ cgroup: cgroup.path }).state().selfFrozen).toBe(true);
    }));

  it('lists what is frozen, by whom, and since when', () =>
    withCgroup(version, async (cgroup) => {
      using state = new TestState();
      await using counter = await spawnCounter();
      const ours = cgroup.child('ours');
      const foreign = cgroup.child('foreign');
      ours.add(counter.pid);
      const before = Date.now();
      const owner = await startOwner({
        pid: counter.pid,
        cgroup: { version: number, path: ours.path },
        stateDir: state.dir,
        freeze: true,
      });
      foreign.wish(true);
      const listed = async () =>
        (await frozenCgroups({ stateDir: state.dir })).filter(({ path }) => path.startsWith(cgroup.path));
      const all = await listed();
      expect(all.map(({ path, by }) => [basename(path), by])).toEqual(
        [
          ['foreign', undefined],
          ['ours', { pid: owner.pid, targetPid: counter.pid, isAlive: true }],
        ].sort(),
      );
      const since = Date.parse(all.find(({ path }) => path === ours.path)?.since ?? '');
      expect(since).toBeGreaterThanOrEqual(before);
      await killBoth(owner);
      expect((await listed()).find(({ path }) => path === ours.path)?.by?.isAlive).toBe(false);
      await recover({ stateDir: state.dir });
      expect((await listed()).map(({ path }) => path)).toEqual([foreign.path]);
      foreign.wish(false);
    }));
});

describe('recover', () => {
  it('believes no state directory that others can write to', async () => {
    using state = new TestState();
    mkdirSync(state.dir, { mode: 0o755 });
    await expect(recover({ stateDir: state.dir })).rejects.toMatchObject({ code: 'STATE_DIR_UNSAFE' });
    await expect(frozenCgroups({ stateDir: state.dir })).rejects.toMatchObject({ code: 'STATE_DIR_UNSAFE' });
    expect(await recover({ stateDir: state.path('missing') })).toEqual([]);
  });

  it('says what it could not do, and keeps the journal for the next time', async () => {
    using state = new TestState();
    await using counter = await spawnCounter();
    const dir = state.path('.stillframe-images');
    const owner = await startOwner({ pid: counter.pid, stateDir: state.dir, make: [dir] });
    await killBoth(owner);
    // A link where the directory was: not ours to remove.
    renameSync(dir, state.path('moved'));
    symlinkSync('/', dir);
    await expect(recover({ stateDir: state.dir })).rejects.toMatchObject({
      code: 'RECOVERY_FAILED',
      facts: { did: [expect.stringContaining('cannot remove .stillframe-images')] },
    });
    expect(state.journals()).toHaveLength(1);
    unlinkSync(dir);
    expect(await recover({ stateDir: state.dir })).toHaveLength(1);
    expect(state.journals()).toEqual([]);
  });

  it('takes a relative state directory, too', async () => {
    using state = new TestState();
    await using counter = await spawnCounter();
    const dir = state.path('.stillframe-images');
    await killBoth(await startOwner({ pid: counter.pid, stateDir: state.dir, make: [dir] }));
    expect(await recover({ stateDir: relative(process.cwd(), state.dir) })).toMatchObject([
      { did: ['removed .stillframe-images'] },
    ]);
    expect(state.journals()).toEqual([]);
  });
});

it('`stillframe recover` ends with 1 while something is left, says how to go on in that state directory, and then with 0', async () => {
  using state = new TestState();
  const asked = ['recover', '--state-dir', state.dir];
  expect(await stillframe(...asked)).toMatchObject({ status: 0, stdout: 'nothing was left behind\n', stderr: '' });
  const dirs = ['.stillframe-one', '.stillframe-two'].map((name) => state.path(name));
  for (const dir of dirs) {
    await using counter = await spawnCounter();
    await killBoth(await startOwner({ pid: counter.pid, stateDir: state.dir, make: [dir] }));
    // A link where the directory was: not ours to remove.
    renameSync(dir, `${dir}-moved`);
    symlinkSync('/', dir);
  }
  const failed = await stillframe(...asked);
  expect(failed.status).toBe(1);
  expect(failed.stderr).not.toContain('    at ');
  for (const dir of dirs) expect(failed.stderr).toContain(`cannot remove ${basename(dir)}`);
  expect(failed.stderr).toContain(`then run: stillframe recover --state-dir ${state.dir} (`);
  const { error } = JSON.parse((await stillframe(...asked, '--json')).stderr) as { error: { errors: unknown } };
  expect(error.errors).toMatchObject([{ code: 'RECOVERY_FAILED' }, { code: 'RECOVERY_FAILED' }]);
  for (const dir of dirs) unlinkSync(dir);
  expect(await stillframe(...asked)).toMatchObject({ status: 0, stderr: '' });
  expect(state.journals()).toEqual([]);
});
