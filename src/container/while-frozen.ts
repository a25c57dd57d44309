import { unknownOption, type BadOption, type OptionNames } from '../bad-option.js';
import { CheckpointError } from '../checkpoint/base/checkpoint-error.js';
import type { FrozenReport } from '../checkpoint/events/report.js';
import {
  whileCgroupFrozen,
  whileTreeFrozen,
  type CgroupToFreeze,
  type FreezeLimits,
  type TreeToFreeze,
} from '../checkpoint/while-frozen.js';
import type { Frozen } from '../checkpoint/window/frozen.js';
import type { StillframeError } from '../errors.js';
import { ContainerError } from './model/container-error.js';
import { CONTAINER_NAME, findContainer, type ContainerName } from './runtimes/find-container.js';

/** What is frozen: a process tree, a cgroup with all that is in it, or a container with all that runs in it. */
export type WhatToFreeze = TreeToFreeze | CgroupToFreeze | (ContainerName & { pid?: undefined; cgroup?: undefined });

export type WhileFrozenOptions = WhatToFreeze & FreezeLimits;

type Names = OptionNames<Required<TreeToFreeze & FreezeLimits & ContainerName>>;

const OPTIONS: Names = {
  ...CONTAINER_NAME,
  pid: true,
  cgroup: true,
  cgroupVersion: true,
  adopt: true,
  maxFrozenMs: true,
  freezeTimeoutMs: true,
  thawTimeoutMs: true,
  stateDir: true,
  placeGuardianIn: true,
  signal: true,
  onProgress: true,
  onWindow: true,
};

/**
 * Runs `callback` while a process tree, a cgroup or a container stands still: for a snapshot of a file system, a copy,
 * a look. Frozen and thawed are what the kernel says, not what was asked for.
 *
 * Whatever happens, everything runs again, unless its cgroup was frozen before: then it is left so. When this process
 * dies, or `maxFrozenMs` is over and it does not thaw, its guardian does. When the callback fails, the thaw comes
 * first, then its error. A callback that goes on after the deadline or a cancellation is left behind, with its result:
 * it can listen to `frozen.signal`.
 *
 * One at a time: another freeze or checkpoint of the same tree or cgroup, and of those above and below it, is
 * TARGET_BUSY meanwhile. A container is frozen with the commands that were sent into it.
 *
 * @throws the callback's own error; FreezerError; CheckpointError DEADLINE_EXCEEDED, THAWED_BY_OTHERS, TARGET_BUSY,
 * LEFT_FROZEN (the callback's error and the thaw's are in its cause) and those of the guardian; ContainerError; the
 * signal's reason. docs/errors.md says when each code comes
 */
export async function whileFrozen<T>(
  options: WhileFrozenOptions,
  callback: (frozen: Frozen) => T | Promise<T>,
): Promise<FrozenReport<T>> {
  const unknown = unknownOption(options as Partial<Names>, OPTIONS as OptionNames<Partial<Names>>);
  if (unknown !== undefined) throw badOption(options, unknown);
  if (typeof callback !== 'function')
    throw badOption(options, { option: 'callback', value: callback, expected: 'a function' });
  if (isContainer(options)) {
    const { runc, crun, podman, stateRoot, bundle, podmanOptions, pid, cgroup, ...limits } = options;
    if (pid !== undefined || cgroup !== undefined)
      throw badOption(options, { option: 'pid, cgroup', value: pid ?? cgroup, expected: 'nothing beside a container' });
    limits.signal?.throwIfAborted();
    const container = await findContainer({ runc, crun, podman, stateRoot, bundle, podmanOptions });
    return container.cgroup === undefined
      ? whileTreeFrozen({ ...limits, pid: container.pid }, callback)
      : whileCgroupFrozen({ ...limits, pid: container.pid, cgroup: container.cgroup }, callback);
  }
  if (options.pid === undefined && options.cgroup === undefined)
    throw badOption(options, {
      option: 'pid, cgroup, runc, crun, podman',
      value: undefined,
      expected: 'exactly one of them, or `cgroup` beside `pid`',
    });
  return whileTreeFrozen(options, callback);
}

function isContainer(options: WhileFrozenOptions): options is ContainerName & FreezeLimits & { pid?: undefined } {
  const { runc, crun, podman } = options as ContainerName;
  return [runc, crun, podman].some((name) => name !== undefined);
}

/** Of the class that all other errors of such a freeze have. */
function badOption(options: unknown, bad: BadOption): StillframeError {
  const ofContainer = typeof options === 'object' && options !== null && isContainer(options as WhileFrozenOptions);
  return ofContainer ? new ContainerError('BAD_OPTION', bad) : new CheckpointError('BAD_OPTION', bad);
}
