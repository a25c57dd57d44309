import { badPath, unknownOption, without, type OptionNames } from '../bad-option.js';
import { CHECKPOINT_OPTIONS } from '../checkpoint/option-names.js';
import { ContainerError } from './model/container-error.js';

/** What a container's checkpoint takes of `checkpoint()`: its target's options come from the container. */
export const OF_CHECKPOINT = without(CHECKPOINT_OPTIONS, [
  'pid',
  'cgroup',
  'cgroupVersion',
  'adopt',
  'files',
  'parts',
] as const);

/** @throws ContainerError BAD_OPTION */
export function requirePath(option: string, value: unknown): void {
  const wrong = badPath(option, value);
  if (wrong !== undefined) throw new ContainerError('BAD_OPTION', wrong);
}

/** @throws ContainerError BAD_OPTION for the first option that is not known */
export function refuseUnknown<T>(options: T, names: OptionNames<T>): void {
  const unknown = unknownOption(options, names);
  if (unknown !== undefined) throw new ContainerError('BAD_OPTION', unknown);
}
