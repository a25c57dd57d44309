import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { warning, type Warning } from '../../checkpoint/warnings/warning.js';
import { resolveInRoot } from './resolve-in-root.js';
import type { Container } from '../model/container.js';
import { isBindMount } from '../model/spec.js';

/** What Podman makes again for each container: resolv.conf, hosts, hostname, .containerenv. A secret it does not. */
const MADE_BY_PODMAN = /\/overlay-containers\/[0-9a-f]{64}\/userdata\/(?!secrets\/|run\/secrets\/)/;

/** A bind mount whose files are not in the archive: the restore needs them where they are. */
export interface LeftOutMount {
  /** On this machine. */
  source: string;
  /** In the container. */
  destination: string;
}

export function leftOutMounts({ spec, podman }: Container): LeftOutMount[] {
  const archived = new Set((podman?.volumes ?? []).map((volume) => volume.destination));
  // Podman's own is archived; one that a pod's containers share is the pod's.
  if (podman?.shmDir !== undefined) archived.add('/dev/shm');
  return (spec.mounts ?? [])
    .filter((mount) => isBindMount(mount) && mount.source !== undefined && !archived.has(mount.destination))
    .filter(({ source }) => podman === undefined || !MADE_BY_PODMAN.test(source as string))
    .map(({ source, destination }) => ({ source: source as string, destination }));
}

/**
 * Podman copies each secret into the new container's directory, and mounts it on a file below /run/secrets, a mount of
 * its own. That file runc makes when it starts a container, and neither makes it for a restore: CRIU finds no place for
 * the mount. Where the secret goes elsewhere, the file is one of the root file system, and archived.
 * Source: libpod/container_internal_common.go, makeBindMounts, v4.3.1; seen with it.
 */
export function warningsOfSecrets(leftOut: readonly LeftOutMount[]): Warning[] {
  const isSecret = ({ source, destination }: LeftOutMount): boolean =>
    /\/overlay-containers\/[0-9a-f]{64}\/userdata\/secrets\//.test(source) && destination.startsWith('/run/secrets/');
  const mounts = leftOut.filter(isSecret).map(({ destination }) => destination);
  return mounts.length === 0 ? [] : [warning('SECRETS_NOT_RESTORABLE', { mounts })];
}

/**
 * Turns a path of the container's below one of these mounts into one of this machine; undefined elsewhere: what is on
 * the root file system and on volumes is archived, and CRIU dumps what is on a tmpfs of the container's own.
 */
export function pathsOnHost({ pid, bundle }: Container, mounts: readonly LeftOutMount[]) {
  const places = mounts
    .map(({ source, destination }) => ({
      source: orItself(resolve(bundle, source)),
      destination: Buffer.from(resolveInRoot(`/proc/${pid}/root`, destination)),
    }))
    // The innermost first.
    .sort((a, b) => b.destination.length - a.destination.length);
  return (path: Buffer): Buffer | undefined => {
    const place = places.find(
      ({ destination: { length }, destination }) =>
        path.subarray(0, length).equals(destination) && (path.length === length || path[length] === 0x2f),
    );
    return place && Buffer.concat([place.source, path.subarray(place.destination.length)]);
  };
}

function orItself(path: string): Buffer {
  try {
    return realpathSync(path, { encoding: 'buffer' });
  } catch {
    return Buffer.from(path);
  }
}
