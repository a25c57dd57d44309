import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { locateCgroup, openCgroup, openFreezer } from '../../../src/cgroup/index.js';
import { freezerVersions, makeTestCgroup } from '../../fixtures/cgroup.js';
import { endChild, spawnCounter } from '../../fixtures/processes.js';
import { failure } from './failure.js';

function scratch(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'stillframe test-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** What a script prints, as JSON, in a mount namespace of its own: other tests keep their mounts. */
function withMounts(prepare: string, source: string): unknown {
  const script = compiledScript(source);
  try {
    const ran = spawnSync('unshare', ['-m', 'sh', '-c', `${prepare} && exec "$@"`, 'sh', process.execPath, script], {
      encoding: 'utf8',
    });
    expect(ran.stderr).toBe('');
    return JSON.parse(ran.stdout);
  } finally {
    rmSync(dirname(script), { recursive: true });
  }
}

describe.each(freezerVersions())('locating in cgroup %s', (version) => {
  const number = version === 'v1' ? 1 : 2;

  test('a process is found by its pid, wherever the hierarchy is mounted', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter();
    cgroup.add(counter.pid);
    expect(locateCgroup(counter.pid)).toEqual({
      version: number,
      path: cgroup.path,
      name: `/${basename(cgroup.path)}`,
    });
  });

  test('a mount elsewhere, with a space in its name, serves where the usual one is missing, and the freezer works through it', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter();
    cgroup.add(counter.pid);
    using place = scratch();
    const type = version === 'v1' ? '-t cgroup -o freezer' : '-t cgroup2';
    const frozen = withMounts(
      `umount -l '${cgroup.root}' && mount ${type} none '${place.path}'`,
      `
      import { openFreezer } from './cgroup/freezer.js';
      const freezer = openFreezer({ pid: ${counter.pid} });
      await freezer.freeze();
      console.log(JSON.stringify(freezer.path));`,
    );
    expect(frozen).toBe(join(place.path, basename(cgroup.path)));
    expect(await counter.standsStill()).toBe(true);
    cgroup.wish(false);
    expect(await counter.goesOn()).toBe(true);
  });

  test('a bind mount of one cgroup serves for what is in it, and not for what is beside it', async () => {
    await using cgroup = makeTestCgroup(version);
    await using beside = makeTestCgroup(version);
    await using inside = await spawnCounter();
    await using outside = await spawnCounter();
    const job = cgroup.child('job');
    job.add(inside.pid);
    beside.add(outside.pid);
    using place = scratch();
    const name = `/${basename(cgroup.path)}`;
    const found = withMounts(
      `mount --bind '${cgroup.path}' '${place.path}' && umount -l '${cgroup.root}'`,
      `
      import { locateCgroup, openCgroup } from './cgroup/locate.js';
      const code = (look) => { try { return look(); } catch (error) { return error.code; } };
      console.log(JSON.stringify([
        locateCgroup(${inside.pid}, { version: ${number} }).path,
        code(() => locateCgroup(${outside.pid}, { version: ${number} })),
        openCgroup(${JSON.stringify(join(place.path, 'job'))}).name,
        openCgroup(${JSON.stringify(place.path)}).name,
      ]));`,
    );
    // The root of the bind mount is no root of the hierarchy: it can be frozen.
    expect(found).toEqual([join(place.path, 'job'), 'CGROUP_NOT_VISIBLE', `${name}/job`, name]);
  });

  test('a lasting mount is preferred to one that a restoring CRIU makes for a moment', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter();
    cgroup.add(counter.pid);
    using place = scratch();
    const type = version === 'v1' ? '-t cgroup -o freezer' : '-t cgroup2';
    const found = withMounts(
      `mount ${type} none '${place.path}'`,
      `
      import { locateCgroup } from './cgroup/locate.js';
      console.log(JSON.stringify(locateCgroup(${counter.pid}).path));`,
    );
    expect(found).toBe(cgroup.path);
  });

  test('a process in a cgroup namespace of its own is found from outside', async () => {
    await using cgroup = makeTestCgroup(version);
    const child = spawn('unshare', ['-C', 'sleep', '1000'], { stdio: 'ignore' });
    try {
      cgroup.add(child.pid as number);
      expect(locateCgroup(child.pid as number, { version: number }).path).toBe(cgroup.path);
    } finally {
      await endChild(child);
    }
  });

  // The caller is in the namespace: its own root is `/` there, the mounts of outside begin at `/..`.
  test('from inside of a cgroup namespace, cgroups below, beside and above its root are found', async () => {
    await using cgroup = makeTestCgroup(version);
    await using counter = await spawnCounter({ count: 3, mode: 'many' });
    const ours = cgroup.child('ours');
    const below = ours.child('below');
    const beside = cgroup.child('beside');
    const [, b, c] = [counter.pid, ...children(counter.pid)];
    below.add(counter.pid);
    ours.add(b as number);
    beside.add(c as number);
    const script = compiledScript(`import { locateCgroup } from './cgroup/locate.js';
      console.log(JSON.stringify(process.argv.slice(2).map((pid) => locateCgroup(Number(pid), { version: ${number} }))));`);
    const enter = `echo $$ > '${ours.path}/cgroup.procs' && exec unshare -C "$@"`;
    const inside = spawnSync('sh', ['-c', enter, 'sh', process.execPath, script, ...[counter.pid, b, c].map(String)], {
      encoding: 'utf8',
    });
    rmSync(dirname(script), { recursive: true });
    expect(inside.stderr).toBe('');
    expect(JSON.parse(inside.stdout)).toEqual([
      { version: number, path: below.path, name: '/below' },
      // The namespace's root is not the hierarchy's: it can be frozen.
      { version: number, path: ours.path, name: '/' },
      { version: number, path: beside.path, name: '/../beside' },
    ]);
  });

  test('the root cgroup is refused', async () => {
    await using cgroup = makeTestCgroup(version);
    expect((await failure(() => openCgroup(cgroup.root))).code).toBe('CGROUP_IS_ROOT');
    expect((await failure(() => locateCgroup(1, { version: number }))).code).toBe('CGROUP_IS_ROOT');
  });
});

describe.skipIf(freezerVersions().length < 2)('locating on a machine with both versions', () => {
  test('a process in a v1 freezer cgroup and in a v2 one is taken to be where runtimes put it: v1, or as told', async () => {
    await using v1 = makeTestCgroup('v1');
    await using v2 = makeTestCgroup('v2');
    await using counter = await spawnCounter();
    v1.add(counter.pid);
    v2.add(counter.pid);
    expect(locateCgroup(counter.pid).path).toBe(v1.path);
    expect(locateCgroup(counter.pid, { version: 2 }).path).toBe(v2.path);
  });

  test('a v1 cgroup of another controller has no freezer', async () => {
    const path = join('/sys/fs/cgroup/pids', `stillframe-test-${process.pid}`);
    mkdirSync(path);
    try {
      expect((await failure(() => openCgroup(path))).code).toBe('FREEZER_UNSUPPORTED');
    } finally {
      rmdirSync(path);
    }
  });
});

test.each([
  ['/no/such/cgroup', 'CGROUP_NOT_FOUND'],
  ['/tmp', 'NOT_A_CGROUP'],
  ['/proc/version', 'NOT_A_CGROUP'],
])('openCgroup(%s) fails with %s', async (path, code) => {
  expect((await failure(() => openCgroup(path))).code).toBe(code);
});

test('a zombie is said to be one, and not to be in the root cgroup', async () => {
  await using counter = await spawnCounter({ mode: 'zombie' });
  expect((await failure(() => openFreezer({ pid: Number(counter.read()[1]) }))).code).toBe('IS_ZOMBIE');
});

test('a pid that does not exist is said not to', async () => {
  expect((await failure(() => locateCgroup(0x3fffff))).code).toBe('NO_SUCH_PROCESS');
});

/** A module of its own that imports the built cgroup room as `./cgroup/...`. */
function compiledScript(text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  writeFileSync(
    join(folder, 'script.mjs'),
    text.replaceAll("'./cgroup/", `'${new URL('../../../dist/src/cgroup/', import.meta.url).href}`),
  );
  return join(folder, 'script.mjs');
}

function children(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
}
