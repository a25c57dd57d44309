export { openFreezer, type Freezer, type FreezerTarget, type FreezeOptions, type ThawOptions } from './freezer.js';
export { HIDDEN_ANCESTOR, type FreezerState } from './mechanism.js';
export { FreezerError, isFreezerError, type FreezerErrorCode, type FreezerFacts, type AfterFailure, type NamedProcess, type UnfrozenTask } from './freezer-error.js';
export { locateCgroup, openCgroup, cgroupOf, freezerVersions, type CgroupLocation } from './locate.js';
export type { CgroupVersion } from './mountinfo.js';
export { processTree } from './tree.js';
export { readProcess, type ProcessInfo } from './proc.js';
