import { readProc } from '../proc/task.js';
import { parseProcCgroup, type CgroupVersion } from './mountinfo.js';

/** The name of a task's cgroup in the hierarchy that can freeze, as /proc tells it; '' when the task is gone. */
export function cgroupNameOf(tid: number, version: CgroupVersion): string {
  const memberships = parseProcCgroup(readProc(`${tid}/cgroup`) ?? '');
  return (
    memberships.find((m) => m.version === version && (version === 2 || m.controllers.includes('freezer')))?.name ?? ''
  );
}
