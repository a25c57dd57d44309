import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { cgroupOf } from '../../../src/cgroup/index.js';
import { checkpoint, restore } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { forge, takeApart } from '../../fixtures/forge-archive.js';

describe.each(freezerVersions())('a manifest that names cgroups, freezer %s', (version) => {
  let writer: BusyWriter;
  afterEach(() => writer[Symbol.asyncDispose]());

  it('moves processes of the images there, and no other process of the machine', async () => {
    writer = await BusyWriter.start(version);
    const stranger = spawn('sleep', ['600'], { stdio: 'ignore' });
    onTestFinished(async () => {
      stranger.kill('SIGKILL');
      if (stranger.exitCode === null && stranger.signalCode === null) await once(stranger, 'exit');
    });
    await once(stranger, 'spawn');
    const strangers = cgroupOf(stranger.pid as number, version === 'v1' ? 1 : 2).name;
    const output = writer.path('honest.tar');
    const files = [{ path: writer.data, name: 'data' }];
    await checkpoint({ pid: writer.pid, files, output, stateDir: writer.path('state') });
    await writer.destroy();

    const archive = await takeApart(output);
    const cgroup = archive.subject['cgroup'] as { members: { pid: number; cgroup: string }[] };
    // Whom the images know goes where the manifest says; that is what it is for.
    for (const member of cgroup.members) if (member.pid === writer.pid) member.cgroup = 'inner';
    cgroup.members.push({ pid: stranger.pid as number, cgroup: 'prison' }, { pid: 1, cgroup: 'prison' });
    const forged = writer.path('forged.tar');
    writeFileSync(forged, forge(archive));

    onTestFinished(() => {
      for (const name of ['inner', 'prison']) {
        const path = join(writer.cgroup.path, name);
        if (existsSync(path)) rmdirSync(path);
      }
    });
    const restored = await restore({ archive: forged });
    expect(cgroupOf(stranger.pid as number, version === 'v1' ? 1 : 2).name).toBe(strangers);
    expect(existsSync(join(writer.cgroup.path, 'prison'))).toBe(false);
    expect(cgroupOf(restored.pid, version === 'v1' ? 1 : 2).path).toBe(join(writer.cgroup.path, 'inner'));
    await writer.destroy();
  });
});
