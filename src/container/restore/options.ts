import type { OptionNames } from '../../bad-option.js';
import type { OnProgress, OnWarning } from '../../checkpoint/events/phases.js';
import { HOST_SETTINGS, type HostSetting } from '../documents/archived-spec.js';
import { ContainerError } from '../model/container-error.js';
import { refuseUnknown } from '../option-names.js';
import { CONTAINER_NAME, requireOneRuntime, type ContainerName } from '../runtimes/find-container.js';

export interface ContainerRestoreOptions extends ContainerName {
  /**
   * How much a compressed archive may unpack to, in bytes. Default: nine tenths of what is free where it is unpacked.
   */
  maxUnpackedBytes?: number | undefined;
  /**
   * What `checkpointContainer` wrote. `runc`, `crun` or `podman` says by which runtime, and the new container's id or
   * name.
   */
  archive: string;
  /**
   * runc and crun: the new container's bundle. Its root file system holds the image; a missing config.json is written.
   */
  bundle?: string;
  /**
   * What to keep of a configuration that the archive brings along, for a bundle without config.json, although it
   * reaches out to this machine. Default: nothing of it; the report's `dropped` says what there was. Meaningless with
   * Podman, which reads the archive itself and takes what it says.
   */
  keep?: readonly HostSetting[] | undefined;
  /** Podman: the pod that the container goes into. */
  pod?: string | undefined;
  /** Podman: leave the volumes as they are, instead of putting back what the archive holds of them. */
  ignoreVolumes?: boolean | undefined;
  /** How long the thaw may take, in milliseconds. Default 5000. */
  thawTimeoutMs?: number;
  /** Where CRIU's images are unpacked to, as in RestoreOptions. Default: the archive's directory, or /var/tmp. */
  workDir?: string | undefined;
  criuPath?: string | undefined;
  /** As in CheckpointOptions. */
  placeGuardianIn?: string | undefined;
  stateDir?: string | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: OnProgress | undefined;
  /** As in CheckpointOptions. */
  strict?: boolean | undefined;
  onWarning?: OnWarning | undefined;
}

const OPTIONS: OptionNames<ContainerRestoreOptions> = {
  ...CONTAINER_NAME,
  archive: true,
  maxUnpackedBytes: true,
  keep: true,
  pod: true,
  ignoreVolumes: true,
  thawTimeoutMs: true,
  workDir: true,
  criuPath: true,
  placeGuardianIn: true,
  stateDir: true,
  signal: true,
  onProgress: true,
  strict: true,
  onWarning: true,
};

/** @throws ContainerError BAD_OPTION */
export function checkContainerRestoreOptions(options: ContainerRestoreOptions): void {
  refuseUnknown(options, OPTIONS);
  requireOneRuntime(options);
  const { podman, bundle, keep = [], pod, ignoreVolumes } = options;
  const unknown = keep.find((setting) => !HOST_SETTINGS.includes(setting));
  if (unknown !== undefined || (keep.length > 0 && podman !== undefined))
    throw new ContainerError('BAD_OPTION', {
      option: 'keep',
      value: unknown ?? keep.join(', '),
      expected: `${HOST_SETTINGS.join(', ')}, for runc or crun`,
    });
  for (const [option, value] of Object.entries({ pod, ignoreVolumes }))
    if (podman === undefined && value !== undefined)
      throw new ContainerError('BAD_OPTION', { option, value, expected: 'nothing without `podman`' });
  if (podman === undefined && bundle === undefined)
    throw new ContainerError('BAD_OPTION', {
      option: 'bundle',
      value: undefined,
      expected: "the new container's bundle directory",
    });
}
