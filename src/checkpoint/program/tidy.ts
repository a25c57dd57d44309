import { existsSync } from 'node:fs';
import { pidsFrom, removeCgroup } from '../../cgroup/index.js';
import { amendRecord, isHolderAlive, readNames } from './names.js';

/**
 * Removes the cgroups that were made for programs that have ended when there was nobody to remove them: they were
 * started to run by themselves, or have been restored. One that is in use again, or cannot be removed now, stays.
 */
export async function removeEmptyCgroups(stateDir: string): Promise<void> {
  const names = readNames(stateDir);
  const inUse = new Set(names.filter(isHolderAlive).map(({ record }) => record?.cgroup?.path));
  for (const { path, record } of names.filter((each) => !isHolderAlive(each))) {
    const { cgroup } = record ?? {};
    if (cgroup?.made !== true || inUse.has(cgroup.path)) continue;
    if (existsSync(cgroup.path)) {
      if (pidsFrom(cgroup.path).length > 0) continue;
      await removeCgroup(cgroup.path, { timeoutMs: 0 }).catch(() => undefined);
    }
    if (!existsSync(cgroup.path)) amendRecord(path, { cgroup: undefined });
  }
}
