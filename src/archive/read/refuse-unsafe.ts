import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import type { Entry, EntryType } from '../format/entry.js';
import { NameCheck, ROOT_NAME } from '../format/names.js';
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
  const check = new TarCheck(archive, root, options);
  let turn = performance.now();
  for await (const { entry } of walkMembers(archive, range, { refuseGlobals: true })) {
    if (options.skip?.(entry) === true) continue;
    check.member(entry);
    turn = await takeTurns(turn, options.signal);
  }
  return check.end();
}

/** The rules that the members of one tar have to keep, each seen in its turn. */
export class TarCheck {
  readonly #archive: OpenArchive;
  readonly #root: string;
  readonly #options: RefusalOptions;
  readonly #safe = new NameCheck();
  readonly #names = new NameSet();
  readonly #links = new ParentLinks();
  #rootType: EntryType | undefined;
  #count = 0;

  constructor(archive: OpenArchive, root: string, options: RefusalOptions) {
    this.#archive = archive;
    this.#root = root;
    this.#options = options;
  }

  /** Whether it is the root, or below it. */
  concerns(entry: Entry): boolean {
    return relativeName(entry.name, this.#root) !== undefined;
  }

  /**
   * What it is called relative to the root, as what it links to, if that is a member.
   * @throws ArchiveError UNSAFE_PATH, UNSAFE_LINK, UNSAFE_MEMBER, ARCHIVE_DAMAGED
   */
  member(entry: Entry): { name: string; linkname: string | undefined } {
    const { type } = entry;
    const facts = (): { archivePath: string; member: string } => ({
      archivePath: this.#archive.path,
      member: printable(entry.name),
    });
    const unsafe = this.#safe.unsafe(entry.name);
    const name = relativeName(entry.name, this.#root);
    if (unsafe !== undefined || name === undefined)
      throw new ArchiveError('UNSAFE_PATH', { ...facts(), what: unsafe ?? `it is not below ${this.#root}` });
    // (uid_t)-1 tells chown to leave the owner alone.
    if (entry.uid >= 0xffffffff || entry.gid >= 0xffffffff)
      throw new ArchiveError('ARCHIVE_DAMAGED', { ...facts(), what: `owner ${entry.uid}:${entry.gid}` });
    if (this.#options.devices === 'refuse' && type.endsWith('-device'))
      throw new ArchiveError('UNSAFE_PATH', { ...facts(), what: 'a device node' });
    const odd = this.#options.images === true ? oddImage(entry, name, this.#links) : undefined;
    if (odd !== undefined) throw new ArchiveError('UNSAFE_MEMBER', { ...facts(), what: `${odd} among CRIU's images` });
    const linkname = entry.linkname === undefined ? undefined : relativeName(entry.linkname, this.#root);
    const wrong = this.#names.add(
      Buffer.from(name, 'latin1'),
      type,
      linkname === undefined ? undefined : Buffer.from(linkname, 'latin1'),
    );
    if (wrong !== undefined && type === 'hardlink')
      throw new ArchiveError('UNSAFE_LINK', { ...facts(), linkname: printable(entry.linkname ?? ''), what: wrong });
    if (wrong !== undefined) throw new ArchiveError('UNSAFE_PATH', { ...facts(), what: wrong });
    if (name === '' && this.#count > 0) throw this.#wrongRoot('the root is not the first member');
    if (name === '') this.#rootType = type;
    else if (this.#rootType !== undefined && this.#rootType !== 'directory')
      throw this.#wrongRoot('members lie below it, and it is no directory');
    this.#count++;
    return { name, linkname };
  }

  /**
   * After the last; what the root is.
   * @throws ArchiveError UNSAFE_MEMBER
   */
  end(): EntryType {
    const endless = this.#links.endless();
    if (endless !== undefined)
      throw new ArchiveError('UNSAFE_MEMBER', {
        archivePath: this.#archive.path,
        member: printable(Buffer.from(`${this.#root}/${endless === '' ? '' : `${endless}/`}parent`, 'latin1')),
        what: "a chain of links without end among CRIU's images",
      });
    return this.#rootType ?? 'directory';
  }

  #wrongRoot(what: string): ArchiveError {
    const member = printable(Buffer.from(this.#root, 'latin1'));
    return new ArchiveError('UNSAFE_PATH', { archivePath: this.#archive.path, member, what });
  }
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
