import { basename } from 'node:path';
import { tmpdir } from 'node:os';
import {
  ArchiveError,
  locateMembers,
  nameOfSource,
  openArchive,
  type ArchiveSource,
  type Member,
  type MemberPlace,
  type OpenArchive,
} from '../../archive/index.js';
import { CriuError, readInventory } from '../../criu/index.js';
import type { OptionNames } from '../../bad-option.js';
import { errnoOf } from '../../errors.js';
import { requireSource } from '../base/check-option.js';
import { placesFor, PrivateDir } from '../base/private-dir.js';
import { copyImages } from './copy-images.js';

export interface InspectProcessesOptions {
  /** How errors name the archive. Default: its path, or what it is. */
  archiveName?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Where a compressed archive is unpacked to, and a stream is kept. Default: the system's temporary directory. */
  tmpDir?: string | undefined;
  /** As in `VerifyOptions`. */
  maxUnpackedBytes?: number | undefined;
}

export const READING_OPTIONS: OptionNames<InspectProcessesOptions> = {
  archiveName: true,
  signal: true,
  tmpDir: true,
  maxUnpackedBytes: true,
};

/** An archive's images of processes, ready for their readers. */
export interface DumpedImagesOf {
  archive: OpenArchive;
  members: ReadonlyMap<string, MemberPlace>;
  /** A private directory: the images, but for those of memory. */
  dir: string;
  /** The images of memory, which stay in the archive, by their names. Empty where they are compressed. */
  pages: ReadonlyMap<string, Member>;
  signal: AbortSignal | undefined;
}

/**
 * Opens any engine's archive and calls `look` with its images, which are gone afterwards.
 * @throws ArchiveError MEMBER_MISSING for an archive without CRIU's images, or without one of them; ARCHIVE_DAMAGED
 *   with
 *   the image that is damaged; and those of `inspect`
 */
export async function withImages<T>(
  source: ArchiveSource,
  { archiveName, signal, tmpDir, maxUnpackedBytes }: InspectProcessesOptions,
  look: (images: DumpedImagesOf) => Promise<T>,
): Promise<T> {
  requireSource('source', source);
  const name = archiveName ?? nameOfSource(source);
  await using archive = await openArchive(source, { name, tmpDir, maxUnpackedBytes, signal });
  const members = await locateMembers(archive, signal);
  const place = members.get('checkpoint');
  if (place === undefined)
    throw new ArchiveError('MEMBER_MISSING', { archivePath: archive.path, member: 'checkpoint' });
  await using dir = await PrivateDir.make(placesFor(tmpDir ?? tmpdir()));
  const pages = await copyImages(archive, { start: place.headerOffset, end: place.end }, dir.path, signal);
  try {
    const { compress } = await readInventory(dir.path);
    const readable = compress === undefined ? pages : new Map<string, Member>();
    return await look({ archive, members, dir: dir.path, pages: readable, signal });
  } catch (error) {
    throw imageError(error, archive.path, dir.path);
  }
}

/** An image's own error names a copy, which is gone by the time somebody reads it. */
function imageError(error: unknown, archivePath: string, dir: string): unknown {
  if (!(error instanceof CriuError) || error.code !== 'CRIU_IMAGE') return error;
  const { path = '', reason } = error.facts as { path?: string; reason?: string };
  if (!path.startsWith(`${dir}/`)) return error;
  const name = basename(path);
  const member = name.endsWith('.img') ? `checkpoint/${name}` : name;
  if (errnoOf(error) === 'ENOENT') return new ArchiveError('MEMBER_MISSING', { archivePath, member });
  return new ArchiveError('ARCHIVE_DAMAGED', {
    ...{ archivePath, member },
    ...(reason === undefined ? { cause: error.cause } : { what: reason }),
  });
}
