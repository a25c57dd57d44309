import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  adopt,
  checkTarget,
  makeCgroup,
  openFreezer,
  placeProcess,
  processTree,
  removeCgroup,
} from '../../../src/cgroup/index.js';
import { cgroupNameOf } from '../../../src/cgroup/membership.js';
import { threadsOf } from '../../../src/proc/task.js';
import { freezerVersions, makeTestCgroup } from '../../fixtures/cgroup.js';
import { spawnCounter, spawnTracer, until } from '../../fixtures/processes.js';
import { failure } from './failure.js';

describe.each(freezerVersions())('adopt in cgroup %s', (name) => {
  const version = name === 'v1' ? 1 : 2;
  const whereIs = (pid: number) => cgroupNameOf(pid, version);

  test('moves a tree out of the root cgroup, where it can be frozen, and back', async () => {
    await using counter = await spawnCounter({ mode: 'chain', count: 4 });
    const pids = processTree(counter.pid).map((process) => process.pid);
    const adoption = await adopt({ pid: counter.pid, version });
    expect(adoption).toMatchObject({ version, origin: '/' });
    expect(checkTarget({ pid: counter.pid, cgroup: adoption.path }).pids).toEqual(pids);
    const freezer = openFreezer({ cgroup: adoption.path });
    await freezer.freeze();
    expect(await counter.standsStill()).toBe(true);
    await freezer.thaw();
    await adoption.release();
    expect(pids.map(whereIs)).toEqual(pids.map(() => '/'));
    expect(existsSync(adoption.path)).toBe(false);
    expect(await counter.goesOn()).toBe(true);
    await adoption.release();
  });

  test('leaves strangers where they are, and puts each process back where it came from', async () => {
    await using cgroup = makeTestCgroup(name);
    await using counter = await spawnCounter({ mode: 'chain', count: 3 });
    await using stranger = await spawnCounter();
    const pids = processTree(counter.pid).map((process) => process.pid);
    const homes = [cgroup.child('a'), cgroup.child('a/b'), cgroup.child('c')];
    pids.forEach((pid, i) => homes[i]?.add(pid));
    homes[0]?.add(stranger.pid);
    const before = pids.map(whereIs);
    {
      await using adoption = await adopt({ pid: counter.pid, version });
      expect(adoption.path.startsWith(`${homes[0]?.path}/stillframe-${counter.pid}-`)).toBe(true);
      expect(new Set(pids.map(whereIs)).size).toBe(1);
      expect(whereIs(stranger.pid)).toBe(before[0]);
      checkTarget({ pid: counter.pid, cgroup: adoption.path });
    }
    expect(pids.map(whereIs)).toEqual(before);
  });

  test('a tree that forks all the while ends inside whole, and outside whole', async () => {
    await using cgroup = makeTestCgroup(name);
    await using bomb = await spawnCounter({ mode: 'bomb', count: 50, cgroup: cgroup.path });
    await bomb.goesOn();
    const adoption = await adopt({ pid: bomb.pid, version });
    const inside = whereIs(bomb.pid);
    for (let i = 0; i < 10; i++) checkTarget({ pid: bomb.pid, cgroup: adoption.path });
    await adoption.release();
    expect(existsSync(adoption.path)).toBe(false);
    expect(whereIs(bomb.pid)).not.toBe(inside);
    expect(await bomb.goesOn()).toBe(true);
  });

  test('a child forked since goes where its parent came from', async () => {
    await using cgroup = makeTestCgroup(name);
    const home = cgroup.child('home');
    await using counter = await spawnCounter({ mode: 'late', cgroup: home.path });
    const before = whereIs(counter.pid);
    const adoption = await adopt({ pid: counter.pid, version });
    counter.child.stdin?.write('\n');
    await until(() => processTree(counter.pid).length === 2);
    const born = processTree(counter.pid)[1]?.pid as number;
    expect(whereIs(born)).toBe(whereIs(counter.pid));
    await adoption.release();
    expect(whereIs(born)).toBe(before);
  });

  test('release() thaws first: nothing is given back frozen', async () => {
    await using counter = await spawnCounter();
    const adoption = await adopt({ pid: counter.pid, version });
    await openFreezer({ cgroup: adoption.path }).freeze();
    await adoption.release();
    expect(await counter.goesOn()).toBe(true);
  });

  test('release() after the tree ended removes the cgroup', async () => {
    const counter = await spawnCounter({ mode: 'chain', count: 3 });
    const adoption = await adopt({ pid: counter.pid, version });
    await counter[Symbol.asyncDispose]();
    await adoption.release();
    expect(existsSync(adoption.path)).toBe(false);
  });

  test("a home that was removed meanwhile is replaced by the root's", async () => {
    await using cgroup = makeTestCgroup(name);
    await using counter = await spawnCounter({ mode: 'chain', count: 2 });
    const [root, child] = processTree(counter.pid).map((process) => process.pid) as [number, number];
    cgroup.child('home').add(root);
    const elsewhere = cgroup.child('elsewhere');
    elsewhere.add(child);
    const adoption = await adopt({ pid: root, version });
    rmdirSync(elsewhere.path);
    await adoption.release();
    expect(whereIs(child)).toBe(whereIs(root));
  });

  test('a tree that cannot be moved whole is left where it was, and no cgroup is left', async () => {
    await using cgroup = makeTestCgroup(name);
    await using counter = await spawnCounter({ mode: 'chain', count: 3, cgroup: cgroup.path });
    const pids = processTree(counter.pid).map((process) => process.pid);
    const hidden = cgroup.child('hidden');
    hidden.add(pids[2] as number);
    const before = pids.map(whereIs);
    // Where a process could not be put back, it is not taken from.
    expect(spawnSync('mount', ['-t', 'tmpfs', 'none', hidden.path]).status).toBe(0);
    try {
      const error = await failure(adopt({ pid: counter.pid, version }));
      expect(error).toMatchObject({ code: 'ADOPT_FAILED', cause: { code: 'CGROUP_NOT_VISIBLE' } });
      expect(existsSync((error.facts as { path: string }).path)).toBe(false);
    } finally {
      spawnSync('umount', [hidden.path]);
    }
    expect(pids.map(whereIs)).toEqual(before);
    expect(await counter.goesOn()).toBe(true);
  });

  test('a tree that is not inside when the time is up is given back', async () => {
    await using cgroup = makeTestCgroup(name);
    await using bomb = await spawnCounter({ mode: 'bomb', count: 60, cgroup: cgroup.path });
    const before = whereIs(bomb.pid);
    try {
      const adoption = await adopt({ pid: bomb.pid, version, timeoutMs: 0 });
      expect(checkTarget({ pid: bomb.pid, cgroup: adoption.path }).pids).toContain(bomb.pid);
      await adoption.release();
    } catch (error) {
      expect(error).toMatchObject({ code: 'ADOPT_FAILED' });
    }
    expect(whereIs(bomb.pid)).toBe(before);
    expect(await bomb.goesOn()).toBe(true);
  });

  test('adopts a stopped and a traced process as well', async () => {
    await using counter = await spawnCounter({ mode: 'chain', count: 2 });
    const pids = processTree(counter.pid).map((process) => process.pid);
    counter.child.kill('SIGSTOP');
    await using tracer = await spawnTracer(pids[1] as number);
    const adoption = await adopt({ pid: counter.pid, version });
    expect(new Set(pids.map(whereIs)).size).toBe(1);
    await adoption.release();
    await tracer[Symbol.asyncDispose]();
    counter.child.kill('SIGCONT');
    expect(await counter.goesOn()).toBe(true);
  });

  test('refuses itself, before any cgroup is made', async () => {
    expect((await failure(adopt({ pid: process.pid, version }))).code).toBe('TARGET_IS_SELF');
  });
});

test('v1: a thread that was apart from its process is put back apart', async ({ skip }) => {
  if (!freezerVersions().includes('v1')) skip('needs cgroup v1');
  await using cgroup = makeTestCgroup('v1');
  await using counter = await spawnCounter({ mode: 'threads', count: 3 });
  cgroup.add(counter.pid);
  const thread = threadsOf(counter.pid)[2] as number;
  writeFileSync(join(cgroup.child('apart').path, 'tasks'), String(thread));
  const before = threadsOf(counter.pid).map((tid) => cgroupNameOf(tid, 1));
  const adoption = await adopt({ pid: counter.pid, version: 1 });
  checkTarget({ pid: counter.pid, cgroup: adoption.path });
  await adoption.release();
  expect(threadsOf(counter.pid).map((tid) => cgroupNameOf(tid, 1))).toEqual(before);
});

test('v2: a threaded cgroup is refused before anything is made', async ({ skip }) => {
  if (!freezerVersions().includes('v2')) skip('needs cgroup v2');
  await using cgroup = makeTestCgroup('v2');
  const threaded = cgroup.child('threaded');
  writeFileSync(join(threaded.path, 'cgroup.type'), 'threaded');
  await using counter = await spawnCounter({ mode: 'threads', count: 2 });
  cgroup.add(counter.pid);
  expect((await failure(adopt({ pid: counter.pid, version: 2 }))).code).toBe('ADOPT_FAILED');
  expect(cgroup.pids()).toEqual([counter.pid]);
});

describe.each(freezerVersions())('cgroups made for a restore in %s', (version) => {
  test('placeProcess makes what is missing and moves the process there', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'threads', count: 3 });
    const path = join(cgroup.path, 'x', 'y');
    placeProcess(counter.pid, path);
    expect(readFileSync(join(path, 'cgroup.procs'), 'utf8')).toBe(`${counter.pid}\n`);
    placeProcess(counter.pid, path);
  });

  test('makeCgroup tells what it made, so that an undo can remove it', async () => {
    await using cgroup = makeTestCgroup(version);
    expect(makeCgroup(join(cgroup.path, 'x', 'y'))).toEqual([join(cgroup.path, 'x'), join(cgroup.path, 'x', 'y')]);
    expect(makeCgroup(join(cgroup.path, 'x', 'z'))).toEqual([join(cgroup.path, 'x', 'z')]);
    expect(makeCgroup(join(cgroup.path, 'x'))).toEqual([]);
    await removeCgroup(join(cgroup.path, 'x'));
    expect(existsSync(join(cgroup.path, 'x'))).toBe(false);
    await removeCgroup(join(cgroup.path, 'x'));
  });

  test('placeProcess says so when the process is gone', async () => {
    await using cgroup = makeTestCgroup(version);
    expect((await failure(() => placeProcess(0x3fffff, cgroup.path))).code).toBe('NO_SUCH_PROCESS');
  });

  test.each([0, -1, NaN])('placeProcess refuses %s: for 0 the kernel would move the caller', async (pid) => {
    await using cgroup = makeTestCgroup(version);
    expect((await failure(() => placeProcess(pid, cgroup.path))).code).toBe('BAD_OPTION');
    expect(cgroup.pids()).toEqual([]);
  });

  test('removeCgroup of a filled cgroup names the pids', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter();
    cgroup.child('x').add(counter.pid);
    const error = await failure(removeCgroup(cgroup.path, { timeoutMs: 30 }));
    expect(error).toMatchObject({ code: 'CGROUP_BUSY', facts: { pids: [counter.pid] } });
    expect(await counter.goesOn()).toBe(true);
  });

  test('removeCgroup waits for a task that is still ending', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'threads', count: 200 });
    cgroup.add(counter.pid);
    counter.child.kill('SIGKILL');
    await removeCgroup(cgroup.path);
    expect(existsSync(cgroup.path)).toBe(false);
  });
});

test('makeCgroup never makes a plain directory', async () => {
  expect((await failure(() => makeCgroup('/tmp/stillframe-test-no-cgroup'))).code).toBe('NOT_A_CGROUP');
  expect(existsSync('/tmp/stillframe-test-no-cgroup')).toBe(false);
  mkdirSync('/tmp/stillframe-test-no-cgroup');
  expect((await failure(() => makeCgroup('/tmp/stillframe-test-no-cgroup'))).code).toBe('NOT_A_CGROUP');
  rmdirSync('/tmp/stillframe-test-no-cgroup');
});
