/**
 * The JSON documents of a container checkpoint archive.
 * Source: checkpointctl v1.5, lib/metadata.go; CRI-O v1.36, internal/lib/checkpoint.go; Podman v4.3.1 and v5.8,
 * libpod/container_internal_common.go; containerd v2.1, internal/cri/server/container_checkpoint_linux.go.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DELETED_FILES, ROOTFS_DIFF } from '../../checkpoint/base/container-members.js';
import type { ArchiveDocument } from '../../checkpoint/window/target.js';
import type { Container } from '../model/container.js';
import { engineFacts } from '../model/engine.js';
import { isBindMount, type OciSpec } from '../model/spec.js';

/** A file of the archive that is not one of the machine. */
export interface Document {
  name: string;
  data: Buffer;
}

/** The names that the format gives to its members. */
export const members = {
  images: 'checkpoint',
  config: 'config.dump',
  spec: 'spec.dump',
  status: 'status.dump',
  network: 'network.status',
  bindMounts: 'bind.mounts',
  rootfsDiff: ROOTFS_DIFF,
  rootfs: 'rootfs.tar',
  deleted: DELETED_FILES,
  devShm: 'devshm-checkpoint.tar',
  podmanLog: 'ctr.log',
  criLog: 'io.kubernetes.cri-o.LogPath',
  volume: (name: string) => `volumes/${name}.tar`,
} as const;

/** Mount points that every engine makes itself on restore. Source: CRI-O, internal/lib/checkpoint.go. */
const ENGINE_MOUNTS = new Set(['/dev', '/dev/shm', '/proc', '/run', '/run/.containerenv', '/run/secrets', '/sys']);

/** What is known before the freeze. */
export async function containerDocuments(container: Container, checkpointedAt: Date): Promise<Document[]> {
  const { podman, spec, bundle } = container;
  const documents: Document[] = [
    { name: members.config, data: podman?.config ?? json(configDump(container, checkpointedAt)) },
    // As it is: the numbers in it may be larger than JavaScript's.
    { name: members.spec, data: await readFile(join(bundle, 'config.json')) },
  ];
  const status = criStatus(container);
  if (status !== undefined) documents.push({ name: members.status, data: json(status) });
  if (podman !== undefined)
    documents.push({ name: members.network, data: Buffer.from(JSON.stringify(podman.networkStatus)) });
  const binds = await bindMounts(spec);
  if (binds.length > 0) documents.push({ name: members.bindMounts, data: json(binds) });
  return documents;
}

/** The container's log: a file of any size, which is copied as far as it has been written by then. */
export function logDocument(container: Container): ArchiveDocument[] {
  const criLog = container.spec.annotations?.['io.kubernetes.cri-o.LogPath'];
  const [name, file] =
    container.podman === undefined ? [members.criLog, criLog] : [members.podmanLog, container.podman.logPath];
  return file === undefined ? [] : [{ name, file }];
}

export function deletedFilesDocument(paths: readonly string[]): Document[] {
  return paths.length === 0 ? [] : [{ name: members.deleted, data: json(paths) }];
}

/** CRI-O's `config.dump`, which checkpointctl reads for every engine but Podman. */
function configDump(
  { id, name, image, ociRuntime, createdAt, spec }: Container,
  checkpointedAt: Date,
): Record<string, unknown> {
  // containerd pulls what this names; a configuration of its own tells no more than the name.
  const imageRef = image?.id ?? (isOfContainerd(spec) ? image?.name : undefined);
  return {
    id,
    name,
    ...(image === undefined ? {} : { rootfsImage: image.name, rootfsImageName: image.name }),
    ...(imageRef === undefined ? {} : { rootfsImageRef: imageRef }),
    runtime: ociRuntime,
    createdTime: createdAt,
    checkpointedTime: checkpointedAt.toISOString(),
    restoredTime: '0001-01-01T00:00:00Z',
    restored: false,
  };
}

/**
 * The CRI's ContainerStatus, without which containerd restores nothing: it takes names, labels and the image from it.
 * Of the labels those that a container's annotations tell; containerd replaces them by the new pod's.
 */
function criStatus({ id, spec, image }: Container): Record<string, unknown> | undefined {
  if (!isOfContainerd(spec)) return undefined;
  const { containerName, podName, podNamespace, podUid } = engineFacts(spec);
  return {
    id,
    metadata: { name: containerName },
    image: { image: image?.name, user_specified_image: image?.name },
    image_ref: image?.id ?? image?.name,
    labels: {
      'io.kubernetes.container.name': containerName,
      'io.kubernetes.pod.name': podName,
      'io.kubernetes.pod.namespace': podNamespace,
      'io.kubernetes.pod.uid': podUid,
    },
    annotations: {},
  };
}

/** A container of containerd's CRI, which alone can restore a checkpoint. */
export function isOfContainerd({ annotations = {} }: OciSpec): boolean {
  return 'io.kubernetes.cri.container-name' in annotations;
}

/** What a bind mount's source was, so that a missing one can be made of the same kind. */
export interface RecordedBindMount {
  source: string;
  destination: string;
  file_type: 'directory' | 'file';
  permissions: number;
}

async function bindMounts({ mounts = [] }: OciSpec): Promise<RecordedBindMount[]> {
  const recorded: RecordedBindMount[] = [];
  for (const mount of mounts) {
    if (!isBindMount(mount) || mount.source === undefined || ENGINE_MOUNTS.has(mount.destination)) continue;
    const source = await stat(mount.source).catch(() => undefined);
    if (source === undefined) continue; // removed since the container was started: its mount lives on, its type is unknown
    recorded.push({
      source: mount.source,
      destination: mount.destination,
      file_type: source.isDirectory() ? 'directory' : 'file',
      permissions: source.mode & 0o777,
    });
  }
  return recorded;
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value, null, 2));
}
