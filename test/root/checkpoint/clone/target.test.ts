import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { cgroupOf } from '../../../../src/cgroup/index.js';
import { checkpoint, inspect, openFreezer, restore, whileFrozen } from '../../../../src/index.js';
import { freezerVersions, withCgroup } from '../../../fixtures/cgroup.js';
import { until } from '../../../fixtures/criu.js';
import { stillframe } from '../../../fixtures/program.js';
import { count, endsWithTest, innermostPid, inside, leftovers, original } from './copied.js';

test('a copy is frozen, checkpointed, and copied again, to any depth', { timeout: 400_000 }, async () => {
  const it = await original();
  const { data, stateDir } = it;
  const counted = join(data, 'parent');
  let archive = it.archive;
  for (let depth = 1; depth <= 3; depth++) {
    const copy = endsWithTest(await restore({ archive, clone: { net: 'own' }, stateDir }));
    expect(innermostPid(copy.pid)).toBe(it.pid);
    const start = count(inside(copy, counted));
    await until(() => count(inside(copy, counted)) > start + 3, `copy ${depth} writes`);

    const output = join(it.scratch, `${depth}.tar`);
    const report = await checkpoint({ pid: copy.pid, files: [{ path: data, name: 'data' }], output, stateDir });
    expect(report.pids.toSorted()).toEqual(copy.pids.toSorted());
    expect(report.warnings).toEqual([]);
    const { manifest } = await inspect(output);
    expect(manifest).toMatchObject({ trees: [{ source: data }], subject: { pid: it.pid, cgroup: { name: '/' } } });
    const before = count(inside(copy, counted));
    await until(() => count(inside(copy, counted)) > before + 3, `copy ${depth} goes on`);
    process.kill(copy.clone!.init, 'SIGKILL');
    await copy.ended();
    archive = output;
  }
  // The last one's files and memory are of one instant, and the original's are its own.
  const last = endsWithTest(await restore({ archive, clone: true, stateDir }));
  await until(() => count(inside(last, counted)) > 0, 'it writes');
  process.kill(last.clone!.init, 'SIGKILL');
  await expect.poll(() => leftovers(it).filter((name) => !/^\d\.tar$/.test(name)), { timeout: 10_000 }).toEqual([]);
});

test('its tree stands still by itself', { timeout: 120_000 }, async () => {
  const it = await original();
  const copy = endsWithTest(await restore({ archive: it.archive, clone: true, stateDir: it.stateDir }));
  const counted = inside(copy, join(it.data, 'parent'));
  await until(() => count(counted) > 0, 'it writes');
  expect(await stillframe('freeze', '--pid', String(copy.pid))).toMatchObject({ status: 0 });
  const before = count(counted);
  expect(openFreezer({ cgroup: copy.cgroup! }).state()).toMatchObject({ frozen: true });
  await until(() => count(join(it.data, 'parent')) > before + 3, 'the original goes on');
  expect(count(counted)).toBe(before);
  expect(await stillframe('thaw', '--pid', String(copy.pid))).toMatchObject({ status: 0 });
  await until(() => count(counted) > before, 'it goes on');
});

test.each(freezerVersions())(
  'it is apart from an original in a cgroup of its own, %s',
  { timeout: 240_000 },
  (version) =>
    withCgroup(version, async (cgroup) => {
      const it = await original(cgroup);
      const files = [{ path: it.data, name: 'data' }];
      const { archive, stateDir } = it;
      const copy = endsWithTest(await restore({ archive, clone: { net: 'own' }, stateDir }));
      expect(dirname(dirname(copy.cgroup!))).toBe(dirname(cgroup.path));
      const counted = inside(copy, join(it.data, 'parent'));
      const { result } = await whileFrozen({ pid: it.pid, cgroup: cgroup.path, stateDir }, async () => {
        const before = count(counted);
        await until(() => count(counted) > before + 3, 'the copy goes on');
        return openFreezer({ cgroup: copy.cgroup! }).state().frozen;
      });
      expect(result).toBe(false);
      const again = { pid: it.pid, cgroup: cgroup.path, files, stateDir, output: join(it.scratch, 'again.tar') };
      expect((await checkpoint(again)).pids.toSorted()).not.toContain(copy.pid);

      // Its own archive is one of the original's place, and so is what is made of that.
      const output = join(it.scratch, 'copy.tar');
      await checkpoint({ pid: copy.pid, files, output, stateDir });
      const recorded = (await inspect(output)).manifest?.subject['cgroup'] as { name: string };
      expect(recorded.name).toBe(cgroupOf(it.pid, version === 'v1' ? 1 : 2).name);
      const second = endsWithTest(await restore({ archive: output, clone: { net: 'own' }, stateDir }));
      expect(dirname(dirname(second.cgroup!))).toBe(dirname(cgroup.path));
    }),
);

test('what is not done with a copy is refused before it is touched', { timeout: 120_000 }, async () => {
  const it = await original();
  const copy = endsWithTest(await restore({ archive: it.archive, clone: true, stateDir: it.stateDir }));
  const output = join(it.scratch, 'copy.tar');
  const options = { pid: copy.pid, output, stateDir: it.stateDir };
  await expect(checkpoint({ ...options, filesInUse: true })).rejects.toMatchObject({ code: 'BAD_OPTION' });
  await expect(checkpoint({ ...options, preDump: { rounds: 1 } })).rejects.toMatchObject({ code: 'BAD_OPTION' });
  expect(existsSync(output)).toBe(false);
});
