/** A file system in a target's tree that stops answering holds neither the frozen window nor whoever asked for the checkpoint. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { checkpoint } from '../../../src/index.js';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { compiled } from '../../fixtures/compiled.js';
import { scratch } from '../../fixtures/criu.js';
import { endChild } from '../../fixtures/processes.js';

const SOURCE = fileURLToPath(new URL('../../fixtures/hanging-fuse.c', import.meta.url));

/** Mounted, and answering; SIGUSR1 makes it stop. Its end frees whoever waits. */
async function mountFuse(on: string): Promise<ChildProcess> {
  mkdirSync(on);
  const server = spawn(compiled(SOURCE, ['-O2', '-w']), [on], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(async () => {
    await endChild(server);
    spawnSync('umount', ['--lazy', on]);
  });
  const [said] = (await Promise.race([once(server.stdout!, 'data'), once(server, 'exit')])) as [unknown];
  expect(String(said)).toBe('ready\n');
  return server;
}

async function sleeper(): Promise<ChildProcess> {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore', detached: true });
  await once(child, 'spawn');
  onTestFinished(() => endChild(child));
  return child;
}

it('the window closes at its deadline, the checkpoint fails with its code, and nothing is left', async () => {
  const dir = await scratch();
  onTestFinished(() => dir[Symbol.asyncDispose]());
  const tree = join(dir.path, 'tree');
  const server = await mountFuse(tree);
  const target = await sleeper();
  await withCgroup(freezerVersions()[0]!, async (cgroup) => {
    cgroup.add(target.pid!);
    let closedAfterMs = 0;
    let at = 0;
    const attempt = checkpoint({
      pid: target.pid!,
      files: [{ path: tree, name: 'tree' }],
      output: join(dir.path, 'out.tar'),
      workDir: dir.path,
      maxFrozenMs: 500,
      retries: 0,
      onProgress: (event) => {
        if (event.phase !== 'freeze' || event.at !== 'start') return;
        at = performance.now();
        server.kill('SIGUSR1');
      },
      onWindow: () => (closedAfterMs = performance.now() - at),
    });
    await expect(attempt).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    expect(closedAfterMs).toBeGreaterThan(0);
    expect(closedAfterMs).toBeLessThan(2500);
    expect(performance.now() - at).toBeLessThan(5000);
    expect(readdirSync(dir.path)).toEqual(['tree']);
  });
});
