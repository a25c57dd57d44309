import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { checkTarget, locateCgroup, processTree, type FreezerFacts } from '../../../src/cgroup/index.js';
import { threadsOf } from '../../../src/proc/task.js';
import { freezerVersions, makeTestCgroup } from '../../fixtures/cgroup.js';
import { seesKernelThreads, spawnCounter, until } from '../../fixtures/processes.js';
import { failure } from './failure.js';

test('processTree lists parents before children, to any depth', async () => {
  await using counter = await spawnCounter({ mode: 'chain', count: 5 });
  const tree = processTree(counter.pid);
  expect(tree).toHaveLength(5);
  expect(tree[0]?.pid).toBe(counter.pid);
  for (let i = 1; i < tree.length; i++) expect(tree[i]?.ppid).toBe(tree[i - 1]?.pid);
});

test('processTree finds the children that another thread forked', async () => {
  const source =
    "const c = require('node:child_process').spawn('sleep', ['100']); require('node:worker_threads').parentPort.postMessage(c.pid)";
  const worker = new Worker(source, { eval: true });
  const [pid] = (await once(worker, 'message')) as [number];
  try {
    expect(processTree(process.pid).map((info) => info.pid)).toContain(pid);
  } finally {
    process.kill(pid, 'SIGKILL');
    await worker.terminate();
  }
});

describe.each(freezerVersions())('checkTarget in cgroup %s', (version) => {
  async function tree(count = 3) {
    const cgroup = makeTestCgroup(version);
    const counter = await spawnCounter({ mode: 'chain', count });
    const pids = processTree(counter.pid).map((process) => process.pid);
    return {
      cgroup,
      counter,
      pids,
      pid: counter.pid,
      async [Symbol.asyncDispose]() {
        await cgroup[Symbol.asyncDispose]();
        await counter[Symbol.asyncDispose]();
      },
    };
  }

  test('accepts a tree that fills its cgroup', async () => {
    await using t = await tree();
    for (const pid of t.pids) t.cgroup.add(pid);
    expect(checkTarget({ pid: t.pid, cgroup: t.cgroup.path })).toEqual({
      pids: t.pids,
      members: t.pids.map((pid) => ({ pid, cgroup: '' })),
    });
  });

  test('accepts a tree that is spread below the cgroup, and says where each process is', async () => {
    await using t = await tree();
    t.cgroup.child('a/b').add(t.pids[0] as number);
    t.cgroup.child('a').add(t.pids[1] as number);
    t.cgroup.add(t.pids[2] as number);
    expect(checkTarget({ pid: t.pid, cgroup: t.cgroup.path }).members).toEqual([
      { pid: t.pids[0], cgroup: 'a/b' },
      { pid: t.pids[1], cgroup: 'a' },
      { pid: t.pids[2], cgroup: '' },
    ]);
  });

  test('an unreaped child counts as nothing', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ mode: 'zombie' });
    cgroup.add(counter.pid);
    const zombie = Number(counter.read()[1]);
    expect(processTree(counter.pid).map((process) => process.pid)).toContain(zombie);
    expect(checkTarget({ pid: counter.pid, cgroup: cgroup.path }).pids).toEqual([counter.pid]);
    const error = await failure(() => checkTarget({ pid: zombie, cgroup: cgroup.path }));
    expect(error).toMatchObject({ code: 'IS_ZOMBIE', facts: { pid: zombie } });
  });

  test('refuses a tree with a child outside of the cgroup, and names the child', async () => {
    await using t = await tree();
    t.cgroup.add(t.pids[0] as number);
    t.cgroup.add(t.pids[1] as number);
    const error = await failure(() => checkTarget({ pid: t.pid, cgroup: t.cgroup.path }));
    expect(error.code).toBe('TARGET_SPREAD');
    expect((error.facts as FreezerFacts['TARGET_SPREAD']).outside).toEqual([
      { pid: t.pids[2], name: expect.stringMatching(/^tasks-/) as string, cgroup: '/' },
    ]);
  });

  test('refuses a cgroup with strangers in it or below it, and names them', async () => {
    await using t = await tree(1);
    await using stranger = await spawnCounter();
    t.cgroup.add(t.pid);
    t.cgroup.child('below').add(stranger.pid);
    const error = await failure(() => checkTarget({ pid: t.pid, cgroup: t.cgroup.path }));
    expect(error.code).toBe('CGROUP_HAS_STRANGERS');
    expect((error.facts as FreezerFacts['CGROUP_HAS_STRANGERS']).strangers).toMatchObject([
      { pid: stranger.pid, cgroup: expect.stringContaining('/below') as string },
    ]);
  });

  test('a parent of the target in its cgroup is a stranger', async () => {
    await using t = await tree(2);
    for (const pid of t.pids) t.cgroup.add(pid);
    const error = await failure(() => checkTarget({ pid: t.pids[1] as number, cgroup: t.cgroup.path }));
    expect(error.facts).toMatchObject({ strangers: [{ pid: t.pids[0] }] });
  });

  test('refuses a cgroup with this process in it', async () => {
    await using t = await tree(1);
    t.cgroup.add(t.pid);
    t.cgroup.add(process.pid);
    try {
      const error = await failure(() => checkTarget({ pid: t.pid, cgroup: t.cgroup.path }));
      expect(error).toMatchObject({ code: 'CGROUP_HOLDS_CALLER', facts: { callers: [{ pid: process.pid }] } });
    } finally {
      writeFileSync(join(t.cgroup.root, 'cgroup.procs'), String(process.pid));
    }
  });

  test('refuses a cgroup without the pid, and says where it is', async () => {
    await using t = await tree(1);
    await using other = makeTestCgroup(version);
    t.cgroup.add(t.pid);
    const error = await failure(() => checkTarget({ pid: t.pid, cgroup: other.path }));
    expect(error).toMatchObject({ code: 'PID_NOT_IN_CGROUP', facts: { cgroup: locateCgroup(t.pid).name } });
  });

  test('refuses the root cgroup', async () => {
    await using t = await tree(1);
    expect((await failure(() => checkTarget({ pid: t.pid, cgroup: t.cgroup.root }))).code).toBe('CGROUP_IS_ROOT');
  });

  test('a fork bomb in its own cgroup is no stranger to itself', async () => {
    await using cgroup = makeTestCgroup(version);
    await using bomb = await spawnCounter({ mode: 'bomb', count: 40, cgroup: cgroup.path });
    for (let i = 0; i < 50; i++) {
      expect(checkTarget({ pid: bomb.pid, cgroup: cgroup.path }).pids).toContain(bomb.pid);
      await sleep(2);
    }
    expect(await bomb.goesOn()).toBe(true);
  });
});

test("cgroup v1: a thread outside of its process's cgroup counts as outside", async ({ skip }) => {
  if (!freezerVersions().includes('v1')) skip('needs cgroup v1');
  await using cgroup = makeTestCgroup('v1');
  await using counter = await spawnCounter({ mode: 'threads', count: 3 });
  cgroup.add(counter.pid);
  const thread = threadsOf(counter.pid)[1] as number;
  writeFileSync(join(cgroup.root, 'tasks'), String(thread));
  const error = await failure(() => checkTarget({ pid: counter.pid, cgroup: cgroup.path }));
  expect(error).toMatchObject({ code: 'TARGET_SPREAD', facts: { outside: [{ pid: thread }] } });
});

describe('a pid that is no target', () => {
  const cgroup = '/proc';
  test.each([0, -1, 1.5, NaN])('%s is no process id', async (pid) => {
    expect((await failure(() => checkTarget({ pid, cgroup }))).code).toBe('BAD_OPTION');
  });
  test('one that does not exist', async () => {
    expect((await failure(() => checkTarget({ pid: 0x3fffff, cgroup }))).code).toBe('NO_SUCH_PROCESS');
  });
  test.runIf(seesKernelThreads())('a kernel thread', async () => {
    expect((await failure(() => checkTarget({ pid: 2, cgroup }))).code).toBe('IS_KERNEL_THREAD');
  });
  test('this process, its parent, and init', async () => {
    for (const pid of [process.pid, process.ppid, 1])
      expect((await failure(() => checkTarget({ pid, cgroup }))).code).toBe('TARGET_IS_SELF');
  });
  test('a thread of a process', async () => {
    await using counter = await spawnCounter({ mode: 'threads', count: 2 });
    expect((await failure(() => checkTarget({ pid: threadsOf(counter.pid)[1] as number, cgroup }))).code).toBe(
      'NO_SUCH_PROCESS',
    );
  });
  test('one that has just been killed and reaped', async () => {
    const counter = await spawnCounter();
    await counter[Symbol.asyncDispose]();
    await until(() => threadsOf(counter.pid).length === 0);
    expect((await failure(() => checkTarget({ pid: counter.pid, cgroup }))).code).toBe('NO_SUCH_PROCESS');
  });
});
