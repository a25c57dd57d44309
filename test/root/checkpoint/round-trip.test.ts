import { existsSync, readFileSync, statSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import { checkpoint, openFreezer, readMember, restore, verify } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';

const ROUNDS = 20;

describe.each(freezerVersions())('a busy tree, freezer %s', (version) => {
  let writer: BusyWriter;
  afterEach(() => writer[Symbol.asyncDispose]());

  it(
    `is restored from the archive alone and agrees with its files, ${ROUNDS} of ${ROUNDS} times`,
    { timeout: 300_000 },
    async () => {
      writer = await BusyWriter.start(version);
      for (let round = 0; round < ROUNDS; round++) {
        const output = writer.path(`round-${round}.tar`);
        const report = await checkpoint({ pid: writer.pid, files: [{ path: writer.data, name: 'data' }], output });
        expect(report.pids.toSorted()).toEqual(writer.pids.toSorted());
        expect(await writer.isWell()).toMatchObject({ goesOn: true, mismatches: 0 });

        await writer.destroy();
        const restored = await restore({ archive: output });
        expect(restored.pid).toBe(writer.pid);
        expect(restored.cgroup).toBe(writer.cgroup.path);
        expect(restored.pids.toSorted()).toEqual(report.pids.toSorted());
        expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
      }
    },
  );

  it('sees a hole in its own execution while CRIU holds it, and the report says what each part of the window took', async () => {
    writer = await BusyWriter.start(version);
    await writer.resetGauge();
    const report = await checkpoint({
      pid: writer.pid,
      files: [{ path: writer.data, name: 'data' }],
      output: writer.path('a.tar'),
    });
    await writer.isWell();
    const { holeMs } = await writer.status();
    // CRIU seizes the tasks soon after our answer and holds them until it has dumped. How much more is the bench's to
    // say.
    expect(holeMs).toBeGreaterThan(report.window.dumpMs * 0.5);
    const parts = Object.values(report.window).reduce((a, b) => a + b);
    expect(Math.abs(parts - report.windowMs)).toBeLessThan(2);
  });

  it('ends after the archive is safe when asked to stop, and starts again from it', async () => {
    writer = await BusyWriter.start(version);
    const output = writer.path('stop.tar');
    const report = await checkpoint({
      pid: writer.pid,
      files: [{ path: writer.data, name: 'data' }],
      output,
      stop: true,
    });
    expect(report.stopped).toBe(true);
    expect(writer.pids).toEqual([]);
    await writer.destroy();
    await restore({ archive: output });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });

  it('stays frozen when its cgroup was frozen before, and its restore runs', async () => {
    writer = await BusyWriter.start(version);
    const freezer = openFreezer({ cgroup: writer.cgroup.path });
    await freezer.freeze();
    const before = await writer.status();
    const report = await checkpoint({
      pid: writer.pid,
      files: [{ path: writer.data, name: 'data' }],
      output: writer.path('frozen.tar'),
    });
    expect(report.foundFrozen).toBe(true);
    expect(freezer.state()).toMatchObject({ frozen: true, selfFrozen: true });
    expect((await writer.status()).steps).toEqual(before.steps);
    await freezer.thaw();
    await writer.destroy();
    await restore({ archive: writer.path('frozen.tar') });
    expect(freezer.state()).toMatchObject({ frozen: false, selfFrozen: false });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });

  it('is adopted out of a shared cgroup and given back', async () => {
    writer = await BusyWriter.start(version, { inRootCgroup: true });
    const home = readFileSync(`/proc/${writer.pid}/cgroup`, 'utf8');
    const cgroupVersion = version === 'v1' ? 1 : 2;
    const report = await checkpoint({
      pid: writer.pid,
      adopt: true,
      cgroupVersion,
      files: [{ path: writer.data, name: 'data' }],
      output: writer.path('adopted.tar'),
    });
    expect(report.cgroup.adopted).toBe(true);
    expect(existsSync(report.cgroup.path)).toBe(false);
    expect(readFileSync(`/proc/${writer.pid}/cgroup`, 'utf8')).toBe(home);
    await writer.destroy();
    await restore({ archive: writer.path('adopted.tar') });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });

  it('is restored into another cgroup on request', async () => {
    writer = await BusyWriter.start(version);
    await checkpoint({ pid: writer.pid, files: [{ path: writer.data, name: 'data' }], output: writer.path('a.tar') });
    await writer.destroy();
    const elsewhere = `${writer.cgroup.path}/elsewhere`;
    const { cgroup } = await restore({ archive: writer.path('a.tar'), cgroup: elsewhere });
    expect(cgroup).toBe(elsewhere);
    expect(readFileSync(`/proc/${writer.pid}/cgroup`, 'utf8')).toContain(elsewhere.slice(writer.cgroup.root.length));
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });

  it('finds its processes in the cgroups below the target again', async () => {
    writer = await BusyWriter.start(version);
    const below = writer.cgroup.child('inner');
    const worker = writer.pids[1]!;
    if (version === 'v1') below.add(worker);
    else below.add(worker);
    await checkpoint({
      pid: writer.pid,
      cgroup: writer.cgroup.path,
      files: [{ path: writer.data, name: 'data' }],
      output: writer.path('a.tar'),
    });
    await writer.destroy();
    await restore({ archive: writer.path('a.tar') });
    expect(below.pids()).toEqual([worker]);
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
  });

  it('writes an archive of mode 0600 that GNU tar lists and extracts, and leaves nothing else', async () => {
    writer = await BusyWriter.start(version);
    const output = writer.path('a.tar');
    await checkpoint({ pid: writer.pid, files: [{ path: writer.data, name: 'data' }], output });
    expect(statSync(output).mode & 0o777).toBe(0o600);
    expect(writer.leftovers()).toEqual(['a.tar']);
    const listing = spawnSync('tar', ['-tf', output], { encoding: 'utf8' });
    expect(listing.stderr).toBe('');
    expect(listing.status).toBe(0);
    const names = listing.stdout.split('\n');
    expect(names).toEqual(
      expect.arrayContaining([
        'data/status',
        'data/w0/grow.dat',
        'checkpoint/',
        'checkpoint/inventory.img',
        'stats-dump',
        'stillframe/manifest.json',
      ]),
    );
    expect(Number((await readMember(output, 'data/w0/state')).toString())).toBeGreaterThan(0);
    expect((await verify(output)).members).toBeGreaterThan(10);
  });
});
