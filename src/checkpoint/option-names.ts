import { unknownOption, type OptionNames } from '../bad-option.js';
import { CheckpointError } from './base/checkpoint-error.js';
import type { CheckpointOptions, CheckpointPlanOptions, RestoreOptions } from './options.js';

export const CHECKPOINT_OPTIONS: OptionNames<CheckpointOptions> = {
  pid: true,
  cgroup: true,
  cgroupVersion: true,
  adopt: true,
  files: true,
  criu: true,
  parts: true,
  program: true,
  output: true,
  compress: true,
  overwrite: true,
  stop: true,
  precopy: true,
  watchFromMs: true,
  preDump: true,
  workDir: true,
  criuLog: true,
  criuPath: true,
  criuHelpers: true,
  maxFrozenMs: true,
  criuStartTimeoutMs: true,
  placeGuardianIn: true,
  retries: true,
  stateDir: true,
  freezeTimeoutMs: true,
  thawTimeoutMs: true,
  signal: true,
  onProgress: true,
  onFrozen: true,
  onWindow: true,
  filesInUse: true,
  strict: true,
  onWarning: true,
};

export const PLAN_OPTIONS: OptionNames<CheckpointPlanOptions> = { ...CHECKPOINT_OPTIONS, observeMs: true };

export const RESTORE_OPTIONS: OptionNames<RestoreOptions> = {
  maxUnpackedBytes: true,
  archive: true,
  archiveName: true,
  files: true,
  replaceFiles: true,
  name: true,
  cgroup: true,
  criu: true,
  placeGuardianIn: true,
  stateDir: true,
  workDir: true,
  criuLog: true,
  lazyPages: true,
  clone: true,
  replaceAddresses: true,
  onBeforeResume: true,
  terminal: true,
  criuPath: true,
  pidTimeoutMs: true,
  thawTimeoutMs: true,
  signal: true,
  onProgress: true,
  strict: true,
  onWarning: true,
};

/** @throws CheckpointError BAD_OPTION for the first option that is not known */
export function refuseUnknown<T>(options: T, names: OptionNames<T>): void {
  const unknown = unknownOption(options, names);
  if (unknown !== undefined) throw new CheckpointError('BAD_OPTION', unknown);
}
