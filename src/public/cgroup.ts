/**
 * `stillframe/cgroup`: the cgroup freezer by itself, v1 and v2.
 * @module stillframe/cgroup
 */
export {
  freezerVersions,
  hierarchyRoot,
  locateCgroup,
  makeCgroup,
  openFreezer,
  placeProcess,
  processTree,
  removeCgroup,
  type CgroupLocation,
  type CgroupMember,
  type CgroupVersion,
  type Freezer,
  type FreezeOptions,
  type FreezerState,
  type FreezerTarget,
  type ThawOptions,
} from '../cgroup/index.js';
export type { BadOption } from '../bad-option.js';
export type { ProcessInfo } from '../proc/task.js';
export {
  FreezerError,
  type AfterFailure,
  type FreezerErrorCode,
  type FreezerFacts,
  type NamedProcess,
  type UnfrozenTask,
} from '../cgroup/index.js';
export { StillframeError, type ErrorText } from '../errors.js';
