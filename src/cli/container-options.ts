import { InvalidArgumentError } from 'commander';
import type { ContainerName } from '../index.js';

/** The options that name a container, as commander hands them over. */
export interface ContainerOptions {
  runc?: string;
  crun?: string;
  podman?: string;
  stateRoot?: string;
  bundle?: string;
}

/** The container that the options name, if they name one. */
export function containerName({ runc, crun, podman, stateRoot, bundle }: ContainerOptions): ContainerName | undefined {
  const given = [runc, crun, podman].filter((name) => name !== undefined).length;
  if (given === 0) return undefined;
  if (given > 1) throw new InvalidArgumentError('Give one of --runc, --crun and --podman.');
  return {
    runc,
    crun,
    podman,
    ...(stateRoot === undefined ? {} : { stateRoot }),
    ...(bundle === undefined ? {} : { bundle }),
  };
}

/** Options that mean nothing beside another are a misunderstanding, and said to be one. */
export function refuseBeside<T extends object>(what: string, options: T, names: readonly (keyof T & string)[]): void {
  const wrong = names
    .filter((name) => options[name] !== undefined)
    .map((name) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`);
  if (wrong.length > 0) throw new InvalidArgumentError(`${wrong.join(', ')} cannot be used with ${what}.`);
}
