import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import type { Entry, EntryType } from '../format/entry.js';
import { ROOT_NAME, unsafeName } from '../format/names.js';
import { NameSet } from './name-set.js';
import { ParentLinks } from './parent-links.js';
import { walkMembers, type OpenArchive, type TarRange } from './reader.js';
import { takeTurns } from '../../yield-to-loop.js';

export interface RefusalOptions {
  devices?: 'create' | 'refuse' | undefined;
  /**
   * They are images of CRIU: regular files and directories, and the links to parent images. Anything else would be
   * opened as if it were a file, and a FIFO, a device or a link would hold or mislead whoever does. Default false.
   */
  images?: boolean | undefined;
  /** Which members are no files, but say something about others: nothing is made of them, so they are not checked. */
  skip?: ((entry: Entry) => boolean) | undefined;
  signal?: AbortSignal | undefined;
}

/** Reads all headers and refuses the whole tar when one of them must not be extracted. */
export async function checkTar(
  archive: OpenArchive,
  range: TarRange,
  root: string,
  options: RefusalOptions,
): Promise<EntryType> {
  const names = new NameSet();
  const links = new ParentLinks();
  let rootType: EntryType | undefined;
  let count = 0;
  const wrongRoot = (what: string): ArchiveError =>
    new ArchiveError('UNSAFE_PATH', {
      archivePath: archive.path,
      member: printable(Buffer.from(root, 'latin1')),
      what,
    });
  let turn = performance.now();
  for await (const { entry } of walkMembers(archive, range, { refuseGlobals: true })) {
    if (options.skip?.(entry) === true) continue;
    const { type } = entry;
    const facts = { archivePath: archive.path, member: printable(entry.name) };
    const unsafe = unsafeName(entry.name);
    const name = relativeName(entry.name, root);
    if (unsafe !== undefined || name === undefined)
      throw new ArchiveError('UNSAFE_PATH', { ...facts, what: unsafe ?? `it is not below ${root}` });
    // (uid_t)-1 tells chown to leave the owner alone.
    if (entry.uid >= 0xffffffff || entry.gid >= 0xffffffff)
      throw new ArchiveError('ARCHIVE_DAMAGED', { ...facts, what: `owner ${entry.uid}:${entry.gid}` });
    if (options.devices === 'refuse' && type.endsWith('-device'))
      throw new ArchiveError('UNSAFE_PATH', { ...facts, what: 'a device node' });
    const odd = options.images === true ? oddImage(entry, name, links) : undefined;
    if (odd !== undefined) throw new ArchiveError('UNSAFE_MEMBER', { ...facts, what: `${odd} among CRIU's images` });
    const linkname = entry.linkname === undefined ? undefined : relativeName(entry.linkname, root);
    const wrong = names.add(
      Buffer.from(name, 'latin1'),
      type,
      linkname === undefined ? undefined : Buffer.from(linkname, 'latin1'),
    );
    if (wrong !== undefined && type === 'hardlink')
      throw new ArchiveError('UNSAFE_LINK', { ...facts, linkname: printable(entry.linkname ?? ''), what: wrong });
    if (wrong !== undefined) throw new ArchiveError('UNSAFE_PATH', { ...facts, what: wrong });
    if (name === '' && count > 0) throw wrongRoot('the root is not the first member');
    if (name === '') rootType = type;
    else if (rootType !== undefined && rootType !== 'directory')
      throw wrongRoot('members lie below it, and it is no directory');
    count++;
    turn = await takeTurns(turn, options.signal);
  }
  const endless = links.endless();
  if (endless !== undefined)
    throw new ArchiveError('UNSAFE_MEMBER', {
      archivePath: archive.path,
      member: printable(Buffer.from(`${root}/${endless === '' ? '' : `${endless}/`}parent`, 'latin1')),
      what: "a chain of links without end among CRIU's images",
    });
  return rootType ?? 'directory';
}

/** What a member is that no image of CRIU is. */
function oddImage({ type, linkname }: Entry, name: string, links: ParentLinks): string | undefined {
  if (name === '') return type === 'directory' ? undefined : `a ${type}`;
  if (type === 'file' || type === 'directory') return undefined;
  return type === 'symlink' ? links.add(name, linkname) : `a ${type}`;
}

/** A name relative to the tree's root, '' for the root itself, undefined when it is not within. */
export function relativeName(name: Buffer, root: string): string | undefined {
  const text = name.toString('latin1');
  if (text === root) return '';
  if (root === ROOT_NAME) return text;
  return text.startsWith(`${root}/`) ? text.slice(root.length + 1) : undefined;
}
