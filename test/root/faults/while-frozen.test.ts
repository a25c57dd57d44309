/** A `whileFrozen` whose process dies, is stopped, or dies with its guardian. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { frozenCgroups, recover } from '../../../src/index.js';
import { readJournals } from '../../../src/checkpoint/guardian/journal.js';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';
import { endChild, spawnCounter, until } from '../../fixtures/processes.js';
import { TestState } from './owner.js';

const program = fileURLToPath(new URL('while-frozen-owner.mjs', import.meta.url));
/** How soon everything must be right again, in milliseconds. */
const RIGHT_WITHIN_MS = 2000;

function startOwner(plan: { options: object; kill?: string; workMs?: number }) {
  const child = spawn(process.execPath, [program, JSON.stringify(plan)], { stdio: ['ignore', 'pipe', 'inherit'] });
  endsWithTest({ [Symbol.asyncDispose]: () => endChild(child) });
  const owner = { child, said: '' };
  child.stdout.on('data', (data: Buffer) => (owner.said += data.toString()));
  return owner;
}

describe.each(freezerVersions())('whileFrozen whose process dies, cgroup %s', (version) => {
  it('has its tree run again within two seconds, whenever that is, and leaves nothing', { timeout: 160_000 }, () =>
    withCgroup(version, async (cgroup) => {
      using state = endsWithTest(new TestState());
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      const targets = [{ pid: counter.pid }, { cgroup: cgroup.path }, { pid: counter.pid, adopt: true }];
      const moments = ['guardian end', 'freeze start', 'freeze end', 'callback start', 'thaw start', 'thaw end'];
      for (const [i, kill] of [...moments, 5, 60, 250].entries()) {
        const options = { ...targets[i % targets.length], stateDir: state.dir };
        const owner = startOwner({ options, ...(typeof kill === 'string' ? { kill } : {}) });
        if (typeof kill === 'number') {
          expect(await until(() => owner.said.includes('frozen'), 60_000)).toBe(true);
          await sleep(kill);
          expect(await counter.standsStill(20), String(kill)).toBe(true);
          owner.child.kill('SIGKILL');
        }
        expect(await until(() => owner.child.signalCode === 'SIGKILL', 60_000), String(kill)).toBe(true);
        const died = performance.now();
        expect(await until(() => state.journals().length === 0, RIGHT_WITHIN_MS), String(kill)).toBe(true);
        expect(await counter.goesOn(), String(kill)).toBe(true);
        expect(performance.now() - died).toBeLessThan(RIGHT_WITHIN_MS);
        expect(cgroup.pids()).toEqual([counter.pid]);
      }
    }),
  );

  it('is found and undone by recover when the guardian was killed, too', () =>
    withCgroup(version, async (cgroup) => {
      using state = endsWithTest(new TestState());
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      const { path } = cgroup;
      for (const target of [{ pid: counter.pid }, { cgroup: path }]) {
        const owner = startOwner({ options: { ...target, stateDir: state.dir } });
        expect(await until(() => owner.said.includes('frozen'), 60_000)).toBe(true);
        const [found] = readJournals(state.dir);
        process.kill(found!.entry.guardian!.pid, 'SIGKILL');
        await endChild(owner.child);
        expect(await counter.standsStill()).toBe(true);
        const by = { pid: owner.child.pid, targetPid: 'pid' in target ? counter.pid : undefined, isAlive: false };
        expect((await frozenCgroups({ stateDir: state.dir })).find((frozen) => frozen.path === path)?.by).toEqual(by);
        expect(await recover({ stateDir: state.dir })).toMatchObject([
          { owner: owner.child.pid, pid: by.targetPid, cgroup: path, did: [`thawed cgroup ${path}`] },
        ]);
        expect(await counter.goesOn()).toBe(true);
        expect(state.journals()).toEqual([]);
      }
    }));

  it('is over for a process that is stopped, at its deadline', () =>
    withCgroup(version, async (cgroup) => {
      using state = endsWithTest(new TestState());
      await using counter = await spawnCounter();
      cgroup.add(counter.pid);
      const options = { pid: counter.pid, maxFrozenMs: 700, stateDir: state.dir };
      const owner = startOwner({ options, workMs: 60_000 });
      expect(await until(() => owner.said.includes('frozen'), 60_000)).toBe(true);
      owner.child.kill('SIGSTOP');
      expect(await until(() => state.log().includes('did not thaw in time'), 5000)).toBe(true);
      expect(await counter.goesOn()).toBe(true);
      owner.child.kill('SIGCONT');
      expect(await until(() => owner.said.includes('failed DEADLINE_EXCEEDED'), 5000)).toBe(true);
      expect(await until(() => state.journals().length === 0)).toBe(true);
      expect(await counter.goesOn()).toBe(true);
    }));
});
