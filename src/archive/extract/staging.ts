import { ArchiveError } from '../format/archive-error.js';
import type { MemberFile } from '../read/member-batch.js';
import type { Member, OpenArchive } from '../read/reader.js';
import { TarCheck, type RefusalOptions } from '../read/refuse-unsafe.js';
import type { OpenDestination, RootEntry } from './destination.js';
import { Extraction } from './extraction.js';

/** Opens what the members go into, when the first of them has come; undefined: nothing is to be made of them. */
export type OpenTarget = (root: RootEntry) => OpenDestination | undefined | Promise<OpenDestination | undefined>;

/**
 * A directory of an archive, or a tree, with all below it, on its way into a directory of ours while the archive that
 * holds it is verified: each byte is read once. It is to be used only when all of the archive has proven right, and
 * `finish` has said the same of it.
 *
 * The rules are those of `extractTar`: each name and link is checked before anything is made of it. What breaks one is
 * refused by `finish`, and nothing more is made: that the archive is damaged is the better answer, where it is.
 */
export class Staging implements Disposable {
  readonly #archive: OpenArchive;
  readonly #root: string;
  readonly #check: TarCheck;
  readonly #open: OpenTarget;
  #extraction: Extraction | undefined;
  #problem: { error: unknown } | undefined;
  #state: 'before' | 'within' | 'after' = 'before';

  /** @param root What it is called in the archive, in latin1. */
  constructor(archive: OpenArchive, root: string, rules: Pick<RefusalOptions, 'images'>, open: OpenTarget) {
    this.#archive = archive;
    this.#root = root;
    this.#check = new TarCheck(archive, root, rules);
    this.#open = open;
  }

  /** See VerifyOptions. */
  readonly place = (member: Member): MemberFile | undefined | Promise<MemberFile | undefined> => {
    if (this.#problem !== undefined || this.#state === 'after') return undefined;
    if (!this.#check.concerns(member.entry)) {
      if (this.#state === 'within') this.#state = 'after';
      return undefined;
    }
    if (this.#state === 'within') return this.#make(member);
    this.#state = 'within';
    return this.#begin(member);
  };

  async #begin(member: Member): Promise<MemberFile | undefined> {
    const { type, uid } = member.entry;
    try {
      const target = await this.#open({ isDirectory: type === 'directory', uid });
      if (target === undefined) return void (this.#state = 'after');
      this.#extraction = new Extraction(this.#archive, target, {});
    } catch (error) {
      this.#problem = { error };
    }
    return this.#make(member);
  }

  #make(member: Member): MemberFile | undefined {
    try {
      const { name, linkname } = this.#check.member(member.entry);
      return this.#extraction?.place(name, member, linkname);
    } catch (error) {
      this.#problem ??= { error };
      return undefined;
    }
  }

  /**
   * After the verification: what is only done when all is there.
   * @throws ArchiveError MEMBER_MISSING, UNSAFE_PATH, UNSAFE_LINK, UNSAFE_MEMBER, EXTRACT_FAILED, DESTINATION_FULL;
   * what `open` threw; the signal's reason
   */
  async finish(signal?: AbortSignal): Promise<void> {
    if (this.#problem !== undefined) throw this.#problem.error;
    if (this.#state === 'before')
      throw new ArchiveError('MEMBER_MISSING', { archivePath: this.#archive.path, member: this.#root });
    this.#check.end();
    await this.#extraction?.finish(signal);
  }

  /** The target's own descriptor stays open. */
  [Symbol.dispose](): void {
    this.#extraction?.close();
  }
}
