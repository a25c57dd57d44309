/** What a copy is made from: a prepared directory, or an archive that is unpacked for this copy alone. */
import { closeSync, constants, openSync, statSync } from 'node:fs';
import { openArchive, verifyArchive, type Manifest } from '../../archive/index.js';
import type { PrivateDirectory } from '../../private-directory.js';
import type { Phases } from '../events/phases.js';
import type { RestoreOptions, RestoreSettings } from '../options.js';
import { PreparedDirectory, type PreparedTree } from '../prepare/prepared-directory.js';
import { unpackInto } from '../prepare/unpack-into.js';
import { readReadyImages, type UnpackedImages } from '../restore/unpack-images.js';

export interface CopySource extends AsyncDisposable {
  manifest: Manifest;
  /** Unpacks what is not unpacked yet into the copy's own directory. */
  unpack(hidden: PrivateDirectory): Promise<CopyContent>;
}

export interface CopyContent {
  images: UnpackedImages;
  prepared: readonly PreparedTree[];
  /** Where the trees are. */
  trees: string;
  /** They are for this copy alone. */
  areOwn: boolean;
}

/** A prepared directory, by what stands at the path. */
export function isDirectory(source: unknown): source is string {
  return typeof source === 'string' && statSync(source, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** @throws ArchiveError; CheckpointError NOT_PREPARED, PREPARED_UNSAFE, PREPARED_CHANGED; the signal's reason */
export async function openSource(
  options: RestoreOptions,
  settings: RestoreSettings,
  phases: Phases,
): Promise<CopySource> {
  return isDirectory(settings.source)
    ? await openPrepared(settings.source, options, phases)
    : await openUnprepared(options, settings, phases);
}

async function openPrepared(dir: string, { signal }: RestoreOptions, phases: Phases): Promise<CopySource> {
  const prepared = await phases.run('verify', () => PreparedDirectory.open(dir, signal));
  let imagesFd = -1;
  const unpack = async (): Promise<CopyContent> => {
    const path = prepared.images;
    imagesFd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
    const images = await readReadyImages({ path, fd: imagesFd });
    return { images, prepared: prepared.info.trees, trees: prepared.trees, areOwn: false };
  };
  return {
    manifest: prepared.info.manifest,
    unpack,
    [Symbol.asyncDispose]: () => {
      if (imagesFd >= 0) closeSync(imagesFd);
      prepared[Symbol.dispose]();
      return Promise.resolve();
    },
  };
}

async function openUnprepared(
  { signal, maxUnpackedBytes }: RestoreOptions,
  { source, archive: name, workDir, besideArchive }: RestoreSettings,
  phases: Phases,
): Promise<CopySource> {
  const archive = await openArchive(source, { name, tmpDir: workDir ?? besideArchive, maxUnpackedBytes, signal });
  try {
    const verified = await phases.run('verify', () =>
      verifyArchive(archive, { signal, onProgress: phases.bytesOf('verify') }),
    );
    return {
      manifest: verified.manifest,
      unpack: async (hidden) => {
        const { images, trees: prepared, path } = await unpackInto(verified, hidden, name, signal);
        return { images, prepared, trees: path, areOwn: true };
      },
      [Symbol.asyncDispose]: () => archive[Symbol.asyncDispose](),
    };
  } catch (error) {
    await archive[Symbol.asyncDispose]();
    throw error;
  }
}
