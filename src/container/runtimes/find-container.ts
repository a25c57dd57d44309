import type { OptionNames } from '../../bad-option.js';
import type { Container } from '../model/container.js';
import { refuseUnknown } from '../option-names.js';
import { ContainerError } from '../model/container-error.js';
import { crunContainer } from './crun.js';
import { podmanContainer, type PodmanOptions } from './podman.js';
import { runcContainer, type RuntimeOptions } from './runc.js';

/** Which container: one of the three, by what its runtime calls it. */
export interface ContainerName extends RuntimeOptions, PodmanOptions {
  /** Id of a runc container. One of containerd, CRI-O or Docker is one too: its `stateRoot` is searched for. */
  runc?: string | undefined;
  /** Id of a crun container. */
  crun?: string | undefined;
  /** Name or id of a Podman container. */
  podman?: string | undefined;
}

export const CONTAINER_NAME: OptionNames<ContainerName> = {
  runc: true,
  crun: true,
  podman: true,
  stateRoot: true,
  bundle: true,
  podmanOptions: true,
};

/** @throws ContainerError BAD_OPTION unless exactly one runtime is named */
export function requireOneRuntime(name: ContainerName): void {
  if (typeof name !== 'object' || (name as unknown) === null)
    throw new ContainerError('BAD_OPTION', { option: 'name', value: name, expected: 'an object such as { runc: ID }' });
  const { runc, crun, podman } = name;
  const given = [runc, crun, podman].filter((name) => name !== undefined);
  if (given.length !== 1)
    throw new ContainerError('BAD_OPTION', {
      option: 'runc, crun, podman',
      value: given.join(', ') || undefined,
      expected: 'exactly one of them',
    });
}

/** @throws ContainerError BAD_OPTION, and those of each runtime */
export async function findContainer(name: ContainerName): Promise<Container> {
  requireOneRuntime(name);
  refuseUnknown(name, CONTAINER_NAME);
  const { runc, crun, podman, ...options } = name;
  if (runc !== undefined) return runcContainer(runc, options);
  if (crun !== undefined) return crunContainer(crun, options);
  return podmanContainer(podman as string, options);
}
