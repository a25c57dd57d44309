import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, resolve } from 'node:path';
import { nameOfSource, type ArchiveSource } from '../../archive/index.js';
import type { OptionNames } from '../../bad-option.js';
import { STATE_DIR } from '../../state-dir.js';
import { optional, requirePath, requireRoot, requireSource } from '../base/check-option.js';
import type { OnProgress } from '../events/phases.js';
import { refuseUnknown } from '../option-names.js';
import type { RestoreOptions } from '../options.js';

export interface PrepareOptions extends Pick<
  RestoreOptions,
  'archive' | 'archiveName' | 'maxUnpackedBytes' | 'workDir' | 'placeGuardianIn' | 'stateDir' | 'signal'
> {
  /**
   * The directory to make. It must not exist, or be empty; its parent must exist, and nobody but root and the caller
   * may be able to rename what is in it.
   */
  dir: string;
  /** Called at the start and end of each phase, and with its progress. It must not throw. */
  onProgress?: OnProgress | undefined;
}

const NAMES: OptionNames<PrepareOptions> = {
  archive: true,
  archiveName: true,
  maxUnpackedBytes: true,
  workDir: true,
  placeGuardianIn: true,
  stateDir: true,
  signal: true,
  dir: true,
  onProgress: true,
};

export interface PrepareSettings {
  source: ArchiveSource;
  /** How it is named. */
  archive: string;
  /** Where a stream or a compressed archive is unpacked to, to be read. */
  workDir: string;
  dir: string;
  stateDir: string;
}

/** @throws CheckpointError BAD_OPTION, NOT_ROOT: before anything is touched */
export function checkPrepareOptions(options: PrepareOptions): PrepareSettings {
  refuseUnknown(options, NAMES);
  requireSource('archive', options.archive);
  requirePath('dir', options.dir);
  optional('stateDir', options.stateDir, requirePath);
  optional('workDir', options.workDir, requirePath);
  optional('placeGuardianIn', options.placeGuardianIn, requirePath);
  requireRoot('preparing an archive');
  const { archive } = options;
  const source = typeof archive === 'string' ? resolve(archive) : archive;
  const beside = typeof source === 'string' ? dirname(source) : existsSync('/var/tmp') ? '/var/tmp' : tmpdir();
  return {
    source,
    archive: options.archiveName ?? nameOfSource(source),
    workDir: resolve(options.workDir ?? beside),
    dir: resolve(options.dir),
    stateDir: resolve(options.stateDir ?? STATE_DIR),
  };
}
