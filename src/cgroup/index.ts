export { openFreezer, type Freezer, type FreezerTarget, type FreezeOptions, type ThawOptions } from './freezer.js';
export { HIDDEN_ANCESTOR, type FreezerState } from './mechanism.js';
export {
  checkCgroup,
  checkProcess,
  checkTarget,
  type CheckedTarget,
  type TargetToCheck,
  type CgroupMember,
} from './target.js';
export { adopt, adoptableHome, type Adoption, type AdoptOptions, type ProcessHome } from './adopt.js';
export { makeCgroup, missingCgroups, moveProcess, pidsFrom, placeProcess, removeCgroup } from './place.js';
export { locateCgroup, openCgroup, cgroupOf, freezerVersions, hierarchyRoot, type CgroupLocation } from './locate.js';
export { Cpusets } from './cpuset.js';
export type { CgroupVersion } from './mountinfo.js';
export { processTree } from './tree.js';
export {
  FreezerError,
  isFreezerError,
  type FreezerErrorCode,
  type FreezerFacts,
  type AfterFailure,
  type NamedProcess,
  type UnfrozenTask,
} from './freezer-error.js';
