/** The file trees of an archive as directories with sizes, for people who look. */
import {
  ArchiveError,
  bytesFromJson,
  printable,
  readMember,
  textsIn,
  walkMembers,
  type Manifest,
  type TarRange,
} from '../../archive/index.js';
import { takeTurns } from '../../yield-to-loop.js';
import { DELETED_FILES, ROOTFS_DIFF } from '../base/container-members.js';
import type { ArchivedFile, ArchivedTree } from './inspected.js';
import type { DumpedImagesOf } from './open-images.js';

/** What a container changed of its image, in every engine's archives. */
const OF_OTHERS = { name: ROOTFS_DIFF, source: '/', layout: 'nested' } as const;
const MAX_DELETED_BYTES = 16 * 2 ** 20;

/** What further files add to is the sums of their directories: memory is bounded, however many there are. */
const MAX_LISTED = 50_000;
const MAX_DEPTH = 64;

/**
 * Of our archives all trees; of those of others what a container changed of its image, as of ours.
 * @throws ArchiveError of `inspect`
 */
export async function archivedTrees(images: DumpedImagesOf, manifest: Manifest | undefined): Promise<ArchivedTree[]> {
  const trees: ArchivedTree[] = [];
  for (const { name, source, layout } of manifest?.trees ?? [{ ...OF_OTHERS }]) {
    const latin1 = bytesFromJson(name).toString('latin1');
    const place = images.members.get(latin1);
    if (place === undefined) continue;
    const { headerOffset, dataOffset, storedBytes, end } = place;
    const root =
      layout === 'nested'
        ? await listed(images, { start: dataOffset, end: dataOffset + storedBytes }, '')
        : await listed(images, { start: headerOffset, end }, latin1);
    const isDiff = latin1 === ROOTFS_DIFF;
    trees.push({
      name: printable(bytesFromJson(name)),
      // It is recorded as the overlay's upper directory on the host.
      source: isDiff ? '/' : printable(bytesFromJson(source)),
      root,
      deleted: isDiff ? await deletedFiles(images) : [],
    });
  }
  return trees;
}

async function listed({ archive, signal }: DumpedImagesOf, range: TarRange, root: string): Promise<ArchivedFile> {
  const top = new Branch(true);
  const budget = { left: MAX_LISTED };
  let turn = performance.now();
  for await (const { entry } of walkMembers(archive, range)) {
    const name = entry.name.toString('latin1').slice(root.length);
    const isDirectory = entry.type === 'directory';
    const parts = name.split('/').filter((part) => part !== '' && part !== '.');
    if (parts.length > 0) top.add(parts, { isDirectory, bytes: entry.type === 'file' ? entry.size : 0 }, budget);
    else if (!isDirectory) top.add([root], { isDirectory, bytes: entry.size }, budget);
    turn = await takeTurns(turn, signal);
  }
  return top.shown(root);
}

async function deletedFiles({ archive, members, signal }: DumpedImagesOf): Promise<string[]> {
  const place = members.get(DELETED_FILES);
  if (place === undefined) return [];
  for await (const member of walkMembers(archive, { start: place.headerOffset, end: place.end })) {
    signal?.throwIfAborted();
    const bytes = await readMember(archive, member, MAX_DELETED_BYTES);
    try {
      // Go's encoding of an empty list may be `null`.
      return bytes.toString('latin1').trim() === 'null'
        ? []
        : Array.from(textsIn(bytes), (path) => printable(Buffer.from(path)));
    } catch (cause) {
      throw new ArchiveError('ARCHIVE_DAMAGED', {
        ...{ archivePath: archive.path, member: DELETED_FILES, what: 'it is no list of paths', cause },
      });
    }
  }
  return [];
}

/** A file, or a directory with what is below it. */
class Branch {
  #isDirectory: boolean;
  #bytes = 0;
  #files = 0;
  #unlisted = 0;
  readonly #children = new Map<string, Branch>();

  constructor(isDirectory: boolean) {
    this.#isDirectory = isDirectory;
  }

  /** @param parts The path below this directory, in latin1. */
  add(parts: string[], file: { isDirectory: boolean; bytes: number }, budget: { left: number }): void {
    this.#bytes += file.bytes;
    if (!file.isDirectory) this.#files++;
    const [name, ...rest] = parts.slice(0, MAX_DEPTH);
    if (name === undefined) return;
    let child = this.#children.get(name);
    if (child === undefined) {
      if (budget.left === 0) return void this.#unlisted++;
      budget.left--;
      child = new Branch(rest.length > 0 || file.isDirectory);
      this.#children.set(name, child);
    }
    if (rest.length > 0) child.#isDirectory = true;
    child.add(rest, file, budget);
  }

  shown(name: string): ArchivedFile {
    const children = [...this.#children].map(([below, branch]) => branch.shown(below));
    return {
      name: printable(Buffer.from(name, 'latin1')),
      ...{ isDirectory: this.#isDirectory, bytes: this.#bytes, files: this.#files, unlisted: this.#unlisted },
      children: children.sort((a, b) => b.bytes - a.bytes || (a.name < b.name ? -1 : 1)),
    };
  }
}
