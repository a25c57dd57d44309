/**
 * A checkpoint as an OCI image: one layer, which is the archive, and annotations by which engines know it for a
 * checkpoint. So it travels through registries to another node.
 * Source: opencontainers/image-spec v1.1, image-layout.md, manifest.md, config.md; CRI-O v1.36,
 * server/container_restore.go; checkpointctl v1.5, lib/annotations.go.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { lstat, mkdir, rename, stat, writeFile } from 'node:fs/promises';
import { arch } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { OptionNames } from '../../bad-option.js';
import { errnoOf } from '../../errors.js';
import { openPlain, PrivateDirectory } from '../../private-directory.js';
import { openArchive, type OpenArchive, type VerifiedArchive } from '../../archive/index.js';
import { ContainerError } from '../model/container-error.js';
import { refuseUnknown, requirePath } from '../option-names.js';
import type { ContainerSubject } from '../target/container-target.js';
import { engineFacts } from '../model/engine.js';
import { recordedContainer, recordedSpec } from './recorded-container.js';
import { verifyContainerArchive } from './verify-container.js';

export interface ImageOptions {
  /**
   * How much a compressed archive may unpack to, in bytes. Default: nine tenths of what is free where it is unpacked.
   */
  maxUnpackedBytes?: number | undefined;
  archive: string;
  /** The directory to make: an OCI image layout. It must not exist. */
  directory: string;
  /** The image's name in the layout, as in `oci:DIR:REF`. Default "latest". */
  ref?: string | undefined;
  signal?: AbortSignal | undefined;
}

const OPTIONS: OptionNames<ImageOptions> = {
  maxUnpackedBytes: true,
  archive: true,
  directory: true,
  ref: true,
  signal: true,
};

export interface ImageReport {
  directory: string;
  /** `sha256:...` of the manifest. */
  digest: string;
  layerBytes: number;
  annotations: Record<string, string>;
}

const MEDIA_TYPES = {
  none: 'application/vnd.oci.image.layer.v1.tar',
  gzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  zstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
} as const;
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG = 'application/vnd.oci.image.config.v1+json';
/** Go's names of processors, which images use. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };

/**
 * Writes an OCI image layout with the archive, verified first, as its only layer.
 * On failure nothing is left; the directory appears whole.
 * @throws ContainerError BAD_OPTION, OUTPUT_EXISTS, NOT_A_CONTAINER_CHECKPOINT, FOREIGN_CHECKPOINT; ArchiveError as
 *   `verify`
 */
export async function writeImage(options: ImageOptions): Promise<ImageReport> {
  refuseUnknown(options, OPTIONS);
  for (const option of ['archive', 'directory'] as const) requirePath(option, options[option]);
  const { signal } = options;
  const directory = resolve(options.directory);
  if (await exists(directory)) throw new ContainerError('OUTPUT_EXISTS', { path: directory });
  const { maxUnpackedBytes } = options;
  await using archive = await openArchive(options.archive, { tmpDir: dirname(directory), maxUnpackedBytes, signal });
  const verified = await verifyContainerArchive(archive, { signal });
  const annotations = await imageAnnotations(verified);

  const hidden = PrivateDirectory.make(await openPlain(dirname(directory)));
  // By its descriptor: whoever can write to the parent could put another directory in its place.
  const fresh = hidden.lastingPath;
  try {
    const blobs = join(fresh, 'blobs', 'sha256');
    await mkdir(blobs, { recursive: true });
    const layer = await copyLayer(resolve(options.archive), blobs, signal);
    // A layer's diff_id is that of the uncompressed tar.
    const diffId = archive.compression === 'none' ? layer.digest : await digestOf(archive);
    const created = recordedContainer(verified).createdAt;
    const config = await addBlob(blobs, {
      created,
      architecture: ARCHITECTURES[arch()] ?? arch(),
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: [diffId] },
      history: [{ created, created_by: 'stillframe image', comment: 'a checkpoint, not a root file system' }],
    });
    const manifest = await addBlob(blobs, {
      schemaVersion: 2,
      mediaType: MANIFEST,
      config: { mediaType: CONFIG, ...config },
      layers: [{ mediaType: MEDIA_TYPES[archive.compression], ...layer }],
      annotations,
    });
    await writeFile(join(fresh, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    const named = {
      mediaType: MANIFEST,
      ...manifest,
      annotations: { 'org.opencontainers.image.ref.name': options.ref ?? 'latest' },
    };
    await writeFile(join(fresh, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [named] }));
    keepAs(hidden, directory);
    return { directory, digest: manifest.digest, layerBytes: layer.size, annotations };
  } catch (error) {
    await hidden.remove();
    throw error;
  }
}

function keepAs(hidden: PrivateDirectory, directory: string): void {
  try {
    hidden.keepAs(basename(directory));
  } catch (cause) {
    if (errnoOf(cause) !== 'EEXIST') throw cause;
    throw new ContainerError('OUTPUT_EXISTS', { path: directory });
  }
}

/** What CRI-O, containerd, Podman and checkpointctl look for. */
async function imageAnnotations(verified: VerifiedArchive): Promise<Record<string, string>> {
  const { container, criu, kernel, cgroupVersion } = recordedContainer(verified);
  const facts = engineFacts(await recordedSpec(verified));
  // Kubernetes knows a container by its name in the pod.
  const name = facts.containerName ?? container.name;
  const engine =
    container.runtime === 'podman'
      ? 'podman'
      : (facts.engine ?? (facts.podName === undefined ? 'stillframe' : 'containerd'));
  const set: Record<string, string | undefined> = {
    'io.kubernetes.cri-o.annotations.checkpoint.name': name,
    ...(container.runtime === 'podman' ? podmanAnnotations(container, criu.version) : {}),
    'org.criu.checkpoint.container.name': name,
    'org.criu.checkpoint.engine.name': engine,
    'org.criu.checkpoint.pod.name': facts.podName,
    'org.criu.checkpoint.pod.id': facts.podId,
    'org.criu.checkpoint.pod.namespace': facts.podNamespace,
    'org.criu.checkpoint.pod.uid': facts.podUid,
    'org.criu.checkpoint.rootfsImageName': container.image?.name,
    'org.criu.checkpoint.rootfsImageUserRequested': container.image?.name,
    'org.criu.checkpoint.rootfsImageID': container.image?.id,
    'org.criu.checkpoint.runtime.name': container.ociRuntime,
    'org.criu.checkpoint.criu.version': criu.version,
    'org.criu.checkpoint.host.arch': ARCHITECTURES[arch()] ?? arch(),
    'org.criu.checkpoint.host.kernel': kernel.release,
    'org.criu.checkpoint.cgroup.version': `v${cgroupVersion}`,
  };
  return Object.fromEntries(
    Object.entries(set).filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== ''),
  );
}

/** Source: Podman v5.8, libpod/define/annotations.go: `podman container restore IMAGE` wants the first. */
function podmanAnnotations(
  { name, image, ociRuntime }: ContainerSubject['container'],
  criuVersion: string,
): Record<string, string | undefined> {
  const key = (fact: string): string => `io.podman.annotations.checkpoint.${fact}`;
  return {
    [key('name')]: name,
    [key('rawImageName')]: image?.name,
    [key('rootfsImageName')]: image?.name,
    [key('rootfsImageID')]: image?.id,
    [key('runtime.name')]: ociRuntime,
    [key('criu.version')]: criuVersion,
  };
}

interface Blob {
  digest: string;
  size: number;
}

/** Copied and hashed in one pass; named by what it turned out to be. */
async function copyLayer(path: string, blobs: string, signal: AbortSignal | undefined): Promise<Blob> {
  const hash = createHash('sha256');
  const temporary = join(blobs, 'layer');
  await pipeline(
    createReadStream(path, { highWaterMark: 1 << 20 }),
    hashing(hash),
    createWriteStream(temporary, { mode: 0o600, flush: true }),
    { signal },
  );
  const hex = hash.digest('hex');
  await rename(temporary, join(blobs, hex));
  return { digest: `sha256:${hex}`, size: (await stat(join(blobs, hex))).size };
}

async function addBlob(blobs: string, content: object): Promise<Blob> {
  const bytes = Buffer.from(JSON.stringify(content));
  const hex = createHash('sha256').update(bytes).digest('hex');
  await writeFile(join(blobs, hex), bytes);
  return { digest: `sha256:${hex}`, size: bytes.length };
}

async function digestOf({ handle, bytes }: OpenArchive): Promise<string> {
  const hash = createHash('sha256');
  const chunk = Buffer.alloc(1 << 18);
  for (let at = 0; at < bytes;) {
    const { bytesRead } = await handle.read(chunk, 0, Math.min(chunk.length, bytes - at), at);
    if (bytesRead === 0) break;
    hash.update(chunk.subarray(0, bytesRead));
    at += bytesRead;
  }
  return `sha256:${hash.digest('hex')}`;
}

function hashing(hash: Hash): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  );
}
