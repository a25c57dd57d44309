import { readFileSync, statSync } from 'node:fs';
import type { Container } from '../model/container.js';
import { ContainerError } from '../model/container-error.js';
import type { Mount } from './mounts.js';

/** The file beside CRIU's images in which runc and crun look for the standard streams. */
export const DESCRIPTORS_JSON = 'descriptors.json';

/**
 * A list of three: what the standard streams were when the container was started. Pipes are replaced on restore.
 * Source: runc v1.5.1, libcontainer/criu_linux.go; crun 1.29, src/libcrun/criu.c.
 */
export function descriptorsDocument({ descriptors }: Container): Buffer {
  return Buffer.from(JSON.stringify(descriptors));
}

/**
 * A file of the host that is a standard stream has no mount in the container: CRIU fails the dump and names it by the
 * number of a mount. It is found here before anything is touched.
 * @throws ContainerError OUTSIDE_FILES
 */
export function checkDescriptors({ id, pid, descriptors }: Container, mounts: readonly Mount[]): void {
  const inside = new Set(mounts.map((mount) => mount.id));
  const outside = descriptors.filter(
    (path, fd) => path.startsWith('/') && isFile(pid, fd) && !inside.has(mountIdOf(pid, fd)),
  );
  if (outside.length > 0) throw new ContainerError('OUTSIDE_FILES', { id, descriptors: outside });
}

function isFile(pid: number, fd: number): boolean {
  return statSync(`/proc/${pid}/fd/${fd}`, { throwIfNoEntry: false })?.isFile() ?? false;
}

function mountIdOf(pid: number, fd: number): number {
  return Number(/^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1'))?.[1]);
}
