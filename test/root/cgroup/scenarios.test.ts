/**
 * The scenarios of the kernel's own freezer tests (tools/testing/selftests/cgroup/test_freezer.c, Linux v6.12), rebuilt
 * against Freezer, for both versions where the kernels agree and said apart where they do not.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openFreezer, processTree } from '../../../src/cgroup/index.js';
import { readProcess } from '../../../src/proc/task.js';
import { freezerVersions, makeTestCgroup } from '../../fixtures/cgroup.js';
import { endChild, spawnCounter, spawnTracer, until } from '../../fixtures/processes.js';

describe.each(freezerVersions())('in cgroup %s', (version) => {
  test('a tree of processes stands still, all of it, and goes on, all of it', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'many', count: 10, cgroup: cgroup.path });
    const freezer = openFreezer({ pid: counter.pid });
    expect(freezer.path).toBe(cgroup.path);
    for (let i = 0; i < 20; i++) {
      await freezer.freeze();
      expect(await counter.standsStill(5)).toBe(true);
      await freezer.thaw();
      expect(await counter.goesOn()).toBe(true);
    }
  });

  test('a process that never sleeps stops as well', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'busy', cgroup: cgroup.path });
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze();
    expect(await counter.standsStill()).toBe(true);
    await freezer.thaw();
    expect(await counter.goesOn()).toBe(true);
  });

  test('a deep tree of cgroups is frozen at its root', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'chain', count: 11 });
    let below = cgroup;
    for (const { pid } of processTree(counter.pid)) {
      below.add(pid);
      below = below.child('d');
    }
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze();
    expect(await counter.standsStill()).toBe(true);
    const deepest = openFreezer({ cgroup: below.path });
    expect(deepest.state()).toEqual({ selfFrozen: false, frozenAncestor: cgroup.path, frozen: true });
    await freezer.thaw();
    expect(await counter.goesOn()).toBe(true);
  });

  test('a fork bomb is frozen, forks nothing while it is, and goes on', async () => {
    await using cgroup = makeTestCgroup(version);
    await using bomb = await spawnCounter({ mode: 'bomb', count: 100, cgroup: cgroup.path });
    const freezer = openFreezer({ cgroup: cgroup.path });
    for (let i = 0; i < 5; i++) {
      await freezer.freeze({ timeoutMs: 10_000 });
      expect(await bomb.standsStill(20)).toBe(true);
      await freezer.thaw();
      expect(await bomb.goesOn()).toBe(true);
    }
  });

  test('mkdir and rmdir in a frozen cgroup leave it frozen, and a new cgroup in it is born frozen', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ cgroup: cgroup.path });
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze();
    const below = join(cgroup.path, 'below');
    mkdirSync(below);
    expect(freezer.state().frozen).toBe(true);
    expect(openFreezer({ cgroup: below }).state()).toEqual({
      selfFrozen: false,
      frozenAncestor: cgroup.path,
      frozen: true,
    });
    rmdirSync(below);
    expect(freezer.state().frozen).toBe(true);
    expect(await counter.standsStill()).toBe(true);
  });

  test('a task that is moved into a frozen cgroup freezes, and one that is moved out goes on', async () => {
    await using frozen = makeTestCgroup(version);
    await using running = makeTestCgroup(version);
    await using counter = await spawnCounter({ cgroup: running.path });
    const freezer = openFreezer({ cgroup: frozen.path });
    await freezer.freeze();
    frozen.add(counter.pid);
    await freezer.freeze();
    expect(await counter.standsStill()).toBe(true);
    running.add(counter.pid);
    expect(await counter.goesOn()).toBe(true);
    expect(freezer.state().frozen).toBe(true);
  });

  test('a task that SIGSTOP has stopped counts as frozen, and is still stopped after the thaw', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ cgroup: cgroup.path });
    counter.child.kill('SIGSTOP');
    await until(() => readProcess(counter.pid)?.state === 'T');
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze();
    await freezer.thaw();
    expect(await until(() => readProcess(counter.pid)?.state === 'T')).toBe(true);
    expect(await counter.standsStill()).toBe(true);
    counter.child.kill('SIGCONT');
    expect(await counter.goesOn()).toBe(true);
  });

  test('SIGCONT to a stopped task in a frozen cgroup does not set it going before the thaw', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ cgroup: cgroup.path });
    counter.child.kill('SIGSTOP');
    await until(() => readProcess(counter.pid)?.state === 'T');
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze();
    counter.child.kill('SIGCONT');
    expect(await counter.standsStill()).toBe(true);
    await freezer.freeze();
    await freezer.thaw();
    expect(await counter.goesOn()).toBe(true);
  });

  test('a task that its tracer has stopped counts as frozen, and the tracer keeps it', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ cgroup: cgroup.path });
    const tracer = await spawnTracer(counter.pid);
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze();
    await freezer.thaw();
    expect(readProcess(counter.pid)?.state).toBe('t');
    expect(await counter.standsStill()).toBe(true);
    await tracer[Symbol.asyncDispose]();
    expect(await counter.goesOn()).toBe(true);
  });

  test('a parent that waits in vfork for a child freezes with it', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'vfork', cgroup: cgroup.path });
    const child = async () => (await counter.moved(30))[1];
    expect(await child()).toBe(true);
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze();
    expect(await child()).toBe(false);
    await freezer.thaw();
    expect(await child()).toBe(true);
  });

  test('a parent that waits in vfork freezes although its child is elsewhere', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'vfork' });
    cgroup.add(counter.pid);
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze();
    expect(freezer.state().frozen).toBe(true);
    expect((await counter.moved(30))[1]).toBe(true);
    await freezer.thaw();
  });

  test(
    version === 'v2' ? 'a frozen task can be killed' : 'a frozen task that is killed ends with the thaw',
    async () => {
      await using cgroup = makeTestCgroup(version);
      await using counter = await spawnCounter({ cgroup: cgroup.path });
      const freezer = openFreezer({ cgroup: cgroup.path });
      await freezer.freeze();
      const ended = new Promise((resolve) => counter.child.once('exit', (_, signal) => resolve(signal)));
      counter.child.kill('SIGKILL');
      if (version === 'v1') {
        expect(await until(() => readProcess(counter.pid)?.state === 'Z', 100)).toBe(false);
        await freezer.thaw();
      }
      expect(await ended).toBe('SIGKILL');
      await freezer.thaw();
      expect(freezer.state().frozen).toBe(false);
    },
  );

  test('while somebody else thaws it all the time, freeze() says done or FREEZE_TIMEOUT, and leaves no wish behind', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'many', count: 5, cgroup: cgroup.path });
    const file = join(cgroup.path, version === 'v1' ? 'freezer.state' : 'cgroup.freeze');
    const interferer = spawn('sh', ['-c', `while :; do echo ${version === 'v1' ? 'THAWED' : '0'} > '${file}'; done`], {
      stdio: 'ignore',
    });
    const freezer = openFreezer({ cgroup: cgroup.path });
    try {
      for (let i = 0; i < 20; i++) {
        await freezer.thaw();
        await freezer
          .freeze({ timeoutMs: 50 })
          .catch((error: unknown) =>
            expect(error).toMatchObject({ code: 'FREEZE_TIMEOUT', facts: { after: 'thawed' } }),
          );
      }
    } finally {
      await endChild(interferer);
    }
    await freezer.thaw();
    expect(await counter.goesOn()).toBe(true);
  });

  test('a thousand processes stand still, and all go on', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'many', count: 1000, cgroup: cgroup.path });
    const freezer = openFreezer({ cgroup: cgroup.path });
    await freezer.freeze({ timeoutMs: 10_000 });
    expect(await counter.standsStill()).toBe(true);
    await freezer.thaw();
    expect(await counter.goesOn()).toBe(true);
  });
});
