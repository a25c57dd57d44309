/** Bad input and faults: a typed error, the tree runs on, nothing is left behind, nothing stays frozen. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkpoint, findCriu, StillframeError, type CheckpointOptions, type PhaseEvent } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions, makeTestCgroup } from '../../fixtures/cgroup.js';
import { seesKernelThreads, spawnCounter, until } from '../../fixtures/processes.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';

async function failure(work: Promise<unknown>): Promise<StillframeError> {
  const error: unknown = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error, 'it was to fail').toBeInstanceOf(StillframeError);
  expect((error as StillframeError).remedy, 'it says what to do').not.toBe('');
  return error as StillframeError;
}

function mountTmpfs(path: string, size: string): Disposable {
  mkdirSync(path, { recursive: true });
  expect(spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size},mode=700`, 'none', path]).status).toBe(0);
  return endsWithTest({
    [Symbol.dispose]: () => {
      spawnSync('umount', ['-l', path]);
    },
  });
}

describe.each(freezerVersions())('a checkpoint that cannot be, freezer %s', (version) => {
  let writer: BusyWriter;
  beforeEach(async () => {
    writer = await BusyWriter.start(version);
  });
  afterEach(() => writer[Symbol.asyncDispose]());

  const attempt = (options: Partial<CheckpointOptions> = {}): Promise<StillframeError> =>
    failure(
      checkpoint({
        pid: writer.pid,
        files: [{ path: writer.data, name: 'data' }],
        output: writer.path('a.tar'),
        ...options,
      }),
    );

  /** What every refusal has to leave. */
  async function expectUntouched(leftovers: string[] = []): Promise<void> {
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(writer.leftovers()).toEqual(leftovers);
  }

  it('refuses a tree with a child in another cgroup, and names it', async () => {
    await using other = makeTestCgroup(version);
    const child = writer.pids[1]!;
    other.add(child);
    const error = await attempt({ cgroup: writer.cgroup.path });
    expect(error).toMatchObject({ code: 'TARGET_SPREAD', facts: { outside: [{ pid: child }] } });
    await expectUntouched();
    writer.cgroup.add(child);
  });

  it('refuses a cgroup without the pid', async () => {
    await using other = makeTestCgroup(version);
    expect((await attempt({ cgroup: other.path })).code).toBe('PID_NOT_IN_CGROUP');
    await expectUntouched();
  });

  it('refuses a cgroup with strangers, and lists them', async () => {
    const stranger = spawn('sleep', ['60'], { stdio: 'ignore' });
    try {
      writer.cgroup.add(stranger.pid!);
      expect(await attempt()).toMatchObject({
        code: 'CGROUP_HAS_STRANGERS',
        facts: { strangers: [{ pid: stranger.pid }] },
      });
      await expectUntouched();
    } finally {
      stranger.kill('SIGKILL');
      await once(stranger, 'exit');
    }
  });

  it('refuses an output that exists, and leaves it as it is', async () => {
    writeFileSync(writer.path('a.tar'), 'precious');
    expect((await attempt()).code).toBe('OUTPUT_EXISTS');
    expect(spawnSync('cat', [writer.path('a.tar')], { encoding: 'utf8' }).stdout).toBe('precious');
    await expectUntouched(['a.tar']);
  });

  it('refuses an output directory that does not exist', async () => {
    expect((await attempt({ output: writer.path('nowhere/a.tar') })).code).toBe('OUTPUT_DIR_MISSING');
    await expectUntouched();
  });

  it('refuses an output directory on a read-only file system', async () => {
    const dir = writer.path('readonly');
    using _tmpfs = mountTmpfs(dir, '1m');
    spawnSync('mount', ['-o', 'remount,ro', dir]);
    const error = await attempt({ output: join(dir, 'a.tar'), workDir: writer.scratch });
    expect(error.code).toBe('OUTPUT_FAILED');
    await expectUntouched(['readonly']);
  });

  it('gives up when the output runs full', async () => {
    const dir = writer.path('small');
    using _tmpfs = mountTmpfs(dir, '128k');
    expect((await attempt({ output: join(dir, 'a.tar'), workDir: writer.scratch })).code).toBe('OUTPUT_FULL');
    expect(readdirSync(dir)).toEqual([]);
    await expectUntouched(['small']);
  });

  it('gives up when the images directory runs full', async () => {
    const dir = writer.path('small');
    using _tmpfs = mountTmpfs(dir, '256k');
    expect((await attempt({ workDir: dir })).code).toBe('IMAGES_FULL');
    expect(readdirSync(dir)).toEqual([]);
    await expectUntouched(['small']);
  });

  it('refuses a file tree that does not exist', async () => {
    expect((await attempt({ files: [{ path: '/nonexistent/tree', name: 'data' }] })).code).toBe('TREE_MISSING');
    await expectUntouched();
  });

  it('refuses to write the archive into the tree that it archives', async () => {
    expect((await attempt({ output: join(writer.data, 'a.tar') })).code).toBe('STAGING_INSIDE_TREE');
    expect(existsSync(join(writer.data, 'a.tar'))).toBe(false);
    await expectUntouched();
  });

  it('gives up when somebody outside the cgroup writes to the files all the time', async () => {
    const path = join(writer.data, 'outside.dat');
    // Small writes, each of which dates the file anew, and a file whose copy takes longer than a turn on the processor.
    const script = `const fs=require('fs');const fd=fs.openSync(${JSON.stringify(path)},'w');const b=Buffer.alloc(1<<20,1);
      for(let i=0;i<256;i++)fs.writeSync(fd,b);fs.writeFileSync(${JSON.stringify(`${path}.ready`)},'');
      for(let i=0;;i=(i+1)%256)fs.writeSync(fd,b,0,4096,i<<20)`;
    const outsider = spawn(process.execPath, ['-e', script], { stdio: 'ignore' });
    try {
      expect(await until(() => existsSync(`${path}.ready`), 20_000)).toBe(true);
      expect(await attempt()).toMatchObject({ code: 'FILE_CHANGED', facts: { path } });
    } finally {
      outsider.kill('SIGKILL');
      await once(outsider, 'exit');
    }
    await expectUntouched();
  });

  it('says so when CRIU is missing', async () => {
    expect((await attempt({ criuPath: '/nonexistent/criu' })).code).toBe('CRIU_NOT_FOUND');
    await expectUntouched();
  });

  it('says so when CRIU is not CRIU', async () => {
    expect(['CRIU_UNUSABLE', 'CRIU_NOT_FOUND']).toContain((await attempt({ criuPath: '/bin/true' })).code);
    await expectUntouched();
  });

  it('recovers when CRIU is killed in the middle of the dump', async () => {
    let killed: number | undefined;
    const error = await attempt({
      onProgress: ({ phase, at }) => {
        // Frozen, and CRIU waits for our answer. Later its code would run in the tasks: docs/guardian.md says what a
        // kill does then.
        if (phase !== 'freeze' || at !== 'end') return;
        killed = childNamed('criu');
        process.kill(killed, 'SIGKILL');
      },
    });
    expect(killed).toBeGreaterThan(0);
    expect(error.code).toBe('CRIU_DIED');
    await expectUntouched();
  });

  it('keeps nothing of a phase whose end a listener answers with an error', async () => {
    const before = children();
    const phases = new Set<string>();
    const options = { pid: writer.pid, files: [{ path: writer.data, name: 'data' }], output: writer.path('a.tar') };
    await checkpoint({ ...options, onProgress: ({ phase, at }) => void (at === 'end' && phases.add(phase)) });
    rmSync(options.output);
    expect([...phases]).toContain('start-criu');
    for (const name of phases) {
      const refusal = new Error(name);
      const onProgress = ({ phase, at }: PhaseEvent): void => {
        if (phase === name && at === 'end') throw refusal;
      };
      await expect(checkpoint({ ...options, onProgress }), name).rejects.toBe(refusal);
      await until(() => children().join() === before.join()); // no guardian and no CRIU is left
      rmSync(options.output, { force: true }); // what comes after the archive cannot take it back
      await expectUntouched();
    }
  });

  it('takes everything back when it is aborted inside the window', async () => {
    const abort = new AbortController();
    const work = checkpoint({
      pid: writer.pid,
      files: [{ path: writer.data, name: 'data' }],
      output: writer.path('a.tar'),
      signal: abort.signal,
      onProgress: ({ phase, at }) => {
        if (phase === 'refresh' && at === 'start') abort.abort();
      },
    });
    await expect(work).rejects.toThrow();
    await expectUntouched();
  });

  it('reports a target that ends meanwhile', async () => {
    const error = await attempt({
      onProgress: ({ phase, at }) => {
        if (phase === 'start-criu' && at === 'end') for (const pid of writer.pids.reverse()) killIfThere(pid);
      },
    });
    expect(['TARGET_GONE', 'NO_SUCH_PROCESS', 'IS_ZOMBIE']).toContain(error.code);
    expect(writer.leftovers()).toEqual([]);
  });

  it('refuses to freeze below a frozen ancestor, and names it', async () => {
    const inner = writer.cgroup.child('inner');
    for (const pid of writer.pids) inner.add(pid);
    writer.cgroup.wish(true);
    const error = await attempt({ cgroup: inner.path });
    expect(error).toMatchObject({ code: 'ANCESTOR_FROZEN', facts: { path: writer.cgroup.path } });
    writer.cgroup.wish(false);
    await expectUntouched();
  });
});

/** This process's own child of that name. */
function childNamed(name: string): number {
  const line = children().find((text) => text.endsWith(` ${name}`));
  if (line === undefined) throw new Error(`no child ${name} among:\n${children().join('\n')}`);
  return Number(line.split(' ')[0]);
}

/** "PID NAME" each. */
function children(): string[] {
  const { stdout } = spawnSync('ps', ['-o', 'pid=,comm=', '--ppid', String(process.pid)], { encoding: 'utf8' });
  return stdout
    .split('\n')
    .map((text) => text.trim())
    .filter((text) => text !== '' && !text.endsWith(' ps'));
}

/** The writer's processes end by themselves once one is gone. */
function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    expect(error).toMatchObject({ code: 'ESRCH' });
  }
}

describe('a target that cannot be', () => {
  let scratch: string;
  let child: ChildProcess | undefined;
  beforeEach(() => {
    scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  });
  afterEach(async () => {
    if (child?.exitCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    child = undefined;
    expect(readdirSync(scratch)).toEqual([]);
    rmSync(scratch, { recursive: true });
  });

  const attempt = (options: Partial<CheckpointOptions> & { pid: number }): Promise<StillframeError> =>
    failure(checkpoint({ output: join(scratch, 'a.tar'), ...options }));

  it('no such pid', async () => {
    expect((await attempt({ pid: 4_194_303 })).code).toBe('NO_SUCH_PROCESS');
  });

  it.runIf(seesKernelThreads())('a kernel thread', async () => {
    expect((await attempt({ pid: 2, adopt: true })).code).toBe('IS_KERNEL_THREAD');
  });

  it('this process itself', async () => {
    expect((await attempt({ pid: process.pid, adopt: true })).code).toBe('TARGET_IS_SELF');
  });

  it('an ancestor of this process', async () => {
    expect((await attempt({ pid: process.ppid, adopt: true })).code).toBe('TARGET_IS_SELF');
  });

  it('a process in the root cgroup, unless it is adopted', async () => {
    child = spawn('sleep', ['60'], { stdio: 'ignore', detached: true });
    const error = await attempt({ pid: child.pid! });
    expect(error.code).toBe('CGROUP_IS_ROOT');
    expect(error.remedy).toContain('adopt');
  });

  it('a zombie', async () => {
    await using parent = await spawnCounter({ mode: 'zombie' });
    const zombie = Number(parent.read()[1]);
    expect((await attempt({ pid: zombie, adopt: true })).code).toBe('IS_ZOMBIE');
  });

  it.each([
    ['pid', { pid: 0 }],
    ['pid', { pid: 1.5 }],
    ['output', { pid: 1, output: '' }],
    ['output', { pid: 1, output: '/tmp/' }],
    ['files[].name', { pid: 1, files: [{ path: '/tmp', name: '../up' }] }],
    ['files[].name', { pid: 1, files: [{ path: '/tmp', name: 'checkpoint' }] }],
    [
      'files[].name',
      {
        pid: 1,
        files: [
          { path: '/tmp', name: 'a' },
          { path: '/var', name: 'a/b' },
        ],
      },
    ],
    ['freezeTimeoutMs', { pid: 1, freezeTimeoutMs: -1 }],
    ['adopt', { pid: 1, adopt: true, cgroup: '/sys/fs/cgroup/x' }],
  ])('a wrong %s: %o', async (option, options) => {
    const error: unknown = await checkpoint({ output: join(scratch, 'a.tar'), ...options }).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'BAD_OPTION', facts: { option } });
  });

  it('not root', async () => {
    const script = fileURLToPath(new URL('../../fixtures/as-nobody.mjs', import.meta.url));
    // In a user namespace: nobody could not read a checkout below /root.
    const nobody = ['--user', '--map-user=65534', '--map-group=65534'];
    const { stdout, stderr } = spawnSync('unshare', [...nobody, process.execPath, script], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(stdout.trim()).toBe('NOT_ROOT');
  });
});

describe('a CRIU that is too old for this kernel', () => {
  it('is passed over, and what it said is told', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
    const fake = join(dir, 'criu');
    try {
      // What Debian 12's CRIU 3.17 does on Linux 6.18, whatever it is asked.
      writeFileSync(
        fake,
        '#!/bin/sh\necho "Error (criu/vdso.c:608): vdso: Unexpected rt vDSO area bounds" >&2\nexit 1\n',
      );
      chmodSync(fake, 0o755);
      const error = await failure(findCriu({ criuPath: fake }));
      expect(error.code).toBe('CRIU_UNUSABLE');
      expect(error.message).toContain('vDSO');
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
