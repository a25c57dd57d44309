import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { OptionNames } from '../../bad-option.js';
import { runningPids } from '../../checkpoint/base/pids.js';
import type { FileTree, Target } from '../../checkpoint/window/target.js';
import { thawImages } from './cgroup-image.js';
import { hasTcpConnections } from './connections.js';
import type { Container } from '../model/container.js';
import { ContainerError } from '../model/container-error.js';
import { refuseUnknown } from '../option-names.js';
import { containerDumpOptions } from './criu-options.js';
import { checkDescriptors, descriptorsDocument, DESCRIPTORS_JSON } from './descriptors.js';
import {
  containerDocuments,
  deletedFilesDocument,
  isOfContainerd,
  logDocument,
  members,
} from '../documents/documents.js';
import { OPAQUE_ROOT, refusingWhiteoutNames, whiteoutsOf } from '../documents/whiteouts.js';
import { upperFiles } from './upper-files.js';
import { leftOutMounts, pathsOnHost, warningsOfSecrets, type LeftOutMount } from './left-out.js';
import { mountAt, overlayOf, readMounts, readRootView, type Mount, type OverlayRoot } from './mounts.js';
import { deletedPaths } from './overlay-deletions.js';
import { OverlayFilter } from './overlay.js';

export interface ContainerTargetOptions {
  /** Archive the whole root file system, for containers that are not on an overlay. Default false: it is an error. */
  wholeRootfs?: boolean | undefined;
}

const TARGET_OPTIONS: OptionNames<ContainerTargetOptions> = { wholeRootfs: true };

export interface ContainerTarget {
  target: Target;
  leftOut: LeftOutMount[];
}

/**
 * A container as a target of `checkpoint()`: what it changed on top of its image, its volumes and shared memory, and
 * CRIU's options such that its own runtime can restore the images.
 * @throws ContainerError BAD_OPTION, NO_OVERLAY, OVERLAY_HIDDEN, OUTSIDE_FILES
 */
export async function containerTarget(
  container: Container,
  options: ContainerTargetOptions = {},
): Promise<ContainerTarget> {
  requireContainer(container);
  refuseUnknown(options, TARGET_OPTIONS);
  const { pid, podman } = container;
  const mounts = await readMounts(pid);
  checkDescriptors(container, mounts);
  const overlay = await findOverlay(container, mounts, options.wholeRootfs === true);
  const upper = options.wholeRootfs === true ? undefined : overlay;
  const filter = upper === undefined ? undefined : new OverlayFilter(upper);
  const checkpointedAt = new Date();
  const leftOut = leftOutMounts(container);

  const files: FileTree[] = [rootTree(container, upper, filter)];
  for (const { name, mountPoint } of podman?.volumes ?? [])
    files.push({ path: mountPoint, name: members.volume(name), layout: 'nested' });
  if (podman?.shmDir !== undefined && mountAt(mounts, '/dev/shm') !== undefined)
    files.push({ path: podman.shmDir, name: members.devShm, layout: 'nested' });

  const target: Target = {
    pid,
    ...(container.cgroup === undefined ? {} : { cgroup: container.cgroup }),
    files,
    criu: containerDumpOptions(container, { mounts, hasConnections: hasTcpConnections(runningPids(pid)) }),
    parts: {
      guests: true,
      subject: subjectOf(container, leftOut, options.wholeRootfs === true),
      onHost: pathsOnHost(container, leftOut),
      warnings: warningsOfSecrets(leftOut),
      ...(overlay === undefined ? {} : { scannedAs: (files, signal) => upperFiles(files, overlay, signal) }),
      complete: async ({ imagesDir, livePaths, append }) => {
        await thawImages(imagesDir);
        await writeFile(join(imagesDir, DESCRIPTORS_JSON), descriptorsDocument(container), { mode: 0o600 });
        const live = (): Iterable<Buffer> => livePaths(members.rootfsDiff);
        const deleted =
          filter === undefined || upper === undefined ? [] : await deletedPaths(await filter.diff(live()), live, upper);
        if (isOfContainerd(container.spec))
          append(members.rootfsDiff, upper === undefined ? [OPAQUE_ROOT] : await whiteoutsOf(deleted, container.id));
        return [
          ...(await containerDocuments(container, checkpointedAt)),
          ...deletedFilesDocument(deleted),
          ...logDocument(container),
        ];
      },
    },
  };
  return { target, leftOut };
}

/** A program without types may hand over a container's name. */
function requireContainer(container: unknown): void {
  const { id, pid, rootfs, spec } = Object(container) as Partial<Record<keyof Container, unknown>>;
  if (typeof id === 'string' && Number.isInteger(pid) && typeof rootfs === 'string' && typeof spec === 'object') return;
  throw new ContainerError('BAD_OPTION', {
    option: 'container',
    value: container,
    expected: 'a container as findContainer() returns it',
  });
}

/**
 * The overlay that is the container's root, as it is mounted on this machine. What the container sees is asked only
 * whether it is the same one.
 */
async function findOverlay(
  { id, rootfs }: Container,
  mounts: readonly Mount[],
  isOptional: boolean,
): Promise<OverlayRoot | undefined> {
  const view = await readRootView(rootfs).catch((cause: unknown) => {
    throw new ContainerError('OVERLAY_HIDDEN', { id, rootfs, cause });
  });
  const overlay = view && overlayOf(view, rootfs);
  const roots = mounts.filter(({ mountPoint }) => mountPoint === '/');
  if (overlay !== undefined && roots.some(({ device }) => device === overlay.device)) return overlay;
  if (isOptional) return undefined;
  if (overlay !== undefined || roots[0]?.fsType === 'overlay')
    throw new ContainerError('OVERLAY_HIDDEN', { id, rootfs });
  throw new ContainerError('NO_OVERLAY', { id, rootfs, fsType: view?.mount.fsType ?? 'an unknown file system' });
}

function rootTree(
  { id, rootfs, spec }: Container,
  upper: OverlayRoot | undefined,
  overlayFilter: OverlayFilter | undefined,
): FileTree {
  const filter = isOfContainerd(spec) ? refusingWhiteoutNames(id, overlayFilter?.entry) : overlayFilter?.entry;
  return {
    path: upper?.upperDir ?? rootfs,
    name: members.rootfsDiff,
    layout: 'nested',
    oneFileSystem: true,
    ...(filter === undefined ? {} : { filter }),
  };
}

/** What the manifest says was dumped, and what a restore by Stillframe needs of it. */
export interface ContainerSubject {
  kind: 'container';
  container: {
    runtime: Container['runtime'];
    ociRuntime: string;
    id: string;
    name: string;
    image?: Container['image'];
    /** As in `ContainerTarget`. Archives before version 0.2 have none. */
    leftOut?: ContainerTarget['leftOut'];
    /** The difference holds whiteouts, beside deleted.files. Absent means no. */
    whiteouts?: true;
    /** The difference is the whole root file system: nothing says what had been deleted. Absent means no. */
    wholeRootfs?: true;
  };
}

function subjectOf(container: Container, leftOut: LeftOutMount[], wholeRootfs: boolean): Record<string, unknown> {
  const { runtime, ociRuntime, id, name, image, spec } = container;
  const subject: ContainerSubject = {
    kind: 'container',
    container: {
      runtime,
      ociRuntime,
      id,
      name,
      ...(image === undefined ? {} : { image }),
      leftOut,
      ...(isOfContainerd(spec) ? { whiteouts: true } : {}),
      ...(wholeRootfs ? { wholeRootfs } : {}),
    },
  };
  return { ...subject };
}
