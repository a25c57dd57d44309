import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import type { EntryType } from '../format/entry.js';
import { ROOT_NAME, unsafeName } from '../format/names.js';
import { NameSet } from './name-set.js';
import { walkMembers, type OpenArchive, type TarRange } from './reader.js';
import { takeTurns } from '../../yield-to-loop.js';

/** Reads all headers and refuses the whole tar when one of them must not be extracted. */
export async function checkTar(
  archive: OpenArchive,
  range: TarRange,
  root: string,
  options: { devices?: 'create' | 'refuse' | undefined; signal?: AbortSignal | undefined },
): Promise<EntryType> {
  const names = new NameSet();
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
  return rootType ?? 'directory';
}

/** A name relative to the tree's root, '' for the root itself, undefined when it is not within. */
export function relativeName(name: Buffer, root: string): string | undefined {
  const text = name.toString('latin1');
  if (text === root) return '';
  if (root === ROOT_NAME) return text;
  return text.startsWith(`${root}/`) ? text.slice(root.length + 1) : undefined;
}
