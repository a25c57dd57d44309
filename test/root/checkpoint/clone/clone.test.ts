import { existsSync, readdirSync, readFileSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import type { JournalEntry } from '../../../../src/checkpoint/guardian/journal-entry.js';
import { prepare, recover, restore, type RestoreReport } from '../../../../src/index.js';
import { isRunning } from '../../../../src/proc/identity.js';
import { until } from '../../../fixtures/criu.js';
import { count, endsWithTest, innermostPid, inside, leftovers, original } from './copied.js';

test(
  'copies of a prepared directory run beside the original, with its pids and files of their own',
  { timeout: 240_000 },
  async () => {
    const it = await original();
    const { pid, data, stateDir } = it;
    const dir = join(it.scratch, 'warm');
    await prepare({ archive: it.archive, dir, stateDir });
    const copies: RestoreReport[] = [];
    for (let i = 0; i < 3; i++) copies.push(endsWithTest(await restore({ archive: dir, clone: true, stateDir })));
    const prepared = readFileSync(join(dir, 'trees/0/parent'));
    for (const copy of copies) {
      expect(copy.clone).toMatchObject({ files: 'overlay', net: 'host' });
      expect(copy.pids).toHaveLength(2);
      expect(innermostPid(copy.pid)).toBe(pid);
      for (const space of ['pid', 'mnt'])
        expect(readlinkSync(`/proc/${copy.pid}/ns/${space}`)).not.toBe(readlinkSync(`/proc/self/ns/${space}`));
      const before = count(inside(copy, join(data, 'parent')));
      await until(() => count(inside(copy, join(data, 'parent'))) > before + 3, 'the copy writes');
      await until(() => count(inside(copy, join(data, 'child'))) > before + 3, 'its child does');
    }
    // Each by itself, and the original too.
    writeFileSync(inside(copies[0]!, join(data, 'new')), '');
    expect(existsSync(join(data, 'new'))).toBe(false);
    expect(existsSync(inside(copies[1]!, join(data, 'new')))).toBe(false);
    const before = count(join(data, 'parent'));
    await until(() => count(join(data, 'parent')) > before + 3, 'the original writes');
    expect(readFileSync(join(dir, 'trees/0/parent'))).toEqual(prepared);

    process.kill(copies[0]!.pid, 'SIGUSR1');
    for (const child of copies[0]!.pids.slice(1)) process.kill(child, 'SIGKILL');
    expect(await copies[0]!.ended()).toEqual({ exitCode: 7, status: 7 });
    await until(() => !existsSync(dirname(copies[0]!.cgroup!)), 'its cgroup is gone');
    process.kill(copies[1]!.clone!.init, 'SIGKILL');
    expect(await copies[1]!.ended()).toMatchObject({ status: 137 });
    process.kill(copies[2]!.clone!.init, 'SIGTERM');
    for (const child of copies[2]!.pids.slice(1)) process.kill(child, 'SIGKILL');
    expect(await copies[2]!.ended()).toMatchObject({ exitSignal: 'SIGTERM' });
    await expect.poll(() => leftovers(it), { timeout: 10_000 }).toEqual([]);
    process.kill(pid, 0);
  },
);

test('an archive is copied without being prepared', { timeout: 120_000 }, async () => {
  const it = await original();
  const copy = endsWithTest(
    await restore({ archive: it.archive, clone: { hostname: 'copy', net: 'own' }, stateDir: it.stateDir }),
  );
  expect(copy.clone).toMatchObject({ files: 'copy', net: 'own', hostname: 'copy' });
  const before = count(inside(copy, join(it.data, 'parent')));
  await until(() => count(inside(copy, join(it.data, 'parent'))) > before + 3, 'the copy writes');
  for (const space of ['uts', 'net'])
    expect(readlinkSync(`/proc/${copy.pid}/ns/${space}`)).not.toBe(readlinkSync(`/proc/self/ns/${space}`));
  process.kill(copy.clone!.init, 'SIGKILL');
  await expect.poll(() => leftovers(it), { timeout: 10_000 }).toEqual([]);
});

test(
  'recover leaves a copy that runs alone, and removes what is left of one that has ended',
  { timeout: 240_000 },
  async () => {
    const it = await original();
    const { stateDir } = it;
    const copy = endsWithTest(await restore({ archive: it.archive, clone: true, stateDir }));
    const [journal] = readdirSync(stateDir).filter((name) => name.includes('@'));
    const entry = JSON.parse(readFileSync(join(stateDir, journal!), 'utf8')) as JournalEntry;
    process.kill(entry.guardian!.pid, 'SIGKILL');
    await until(() => !isRunning(entry.guardian!), 'it is gone');
    // As if this process had ended too.
    const abandoned = join(stateDir, `${entry.id}@${2 ** 22 - 1}-1.json`);
    renameSync(join(stateDir, journal!), abandoned);
    expect(await recover({ stateDir })).toEqual([]);
    const before = count(inside(copy, join(it.data, 'parent')));
    await until(() => count(inside(copy, join(it.data, 'parent'))) > before + 3, 'the copy writes');
    process.kill(copy.clone!.init, 'SIGKILL');
    await copy.ended();
    expect(leftovers(it)).toHaveLength(2);
    expect(await recover({ stateDir })).toMatchObject([{ restoreOf: it.archive }]);
    expect(leftovers(it)).toEqual([]);
    expect(existsSync(dirname(copy.cgroup!))).toBe(false);
  },
);
