import { closeSync, constants, openSync } from 'node:fs';
import { pathOfFd } from '../../openat.js';
import { ArchiveError } from '../format/archive-error.js';
import type { MemberFile } from '../read/member-batch.js';
import type { Member, OpenArchive } from '../read/reader.js';
import { TarCheck } from '../read/refuse-unsafe.js';
import { Extraction } from './extraction.js';

/**
 * CRIU's images on their way into a directory of ours while the archive that holds them is verified: each byte is read
 * once. They are to be used only when all of the archive has proven right, and `finish` has said the same of them.
 *
 * The rules are those of `extractMembers` with `images`: each name and link is checked before anything is made of it.
 * What breaks one is refused by `finish`, and nothing more is made: that the archive is damaged is the better answer,
 * where it is.
 */
export class ImageStaging implements Disposable {
  readonly #archive: OpenArchive;
  readonly #root: string;
  readonly #fd: number;
  readonly #check: TarCheck;
  readonly #extraction: Extraction;
  #problem: { error: unknown } | undefined;
  #state: 'before' | 'within' | 'after' = 'before';

  /**
   * @param root What the directory of the images is called in the archive.
   * @param directory Empty, and nobody else's. It stays the caller's.
   */
  constructor(archive: OpenArchive, root: string, directory: { path: string; fd: number }) {
    this.#archive = archive;
    this.#root = root;
    this.#check = new TarCheck(archive, root, { images: true });
    this.#fd = openSync(pathOfFd(directory.fd), constants.O_RDONLY | constants.O_DIRECTORY);
    const target = { path: directory.path, fd: this.#fd, fileName: undefined, made: undefined, before: undefined };
    this.#extraction = new Extraction(archive, target, {});
  }

  /** See VerifyOptions. */
  readonly place = (member: Member): MemberFile | undefined => {
    if (this.#problem !== undefined || this.#state === 'after') return undefined;
    const isWithin = this.#check.concerns(member.entry);
    if (!isWithin) {
      if (this.#state === 'within') this.#state = 'after';
      return undefined;
    }
    this.#state = 'within';
    try {
      const { name, linkname } = this.#check.member(member.entry);
      return this.#extraction.place(name, member, linkname);
    } catch (error) {
      this.#problem = { error };
      return undefined;
    }
  };

  /**
   * After the verification.
   * @throws ArchiveError MEMBER_MISSING, UNSAFE_PATH, UNSAFE_LINK, UNSAFE_MEMBER, EXTRACT_FAILED, DESTINATION_FULL
   */
  async finish(): Promise<void> {
    if (this.#problem !== undefined) throw this.#problem.error;
    if (this.#state === 'before')
      throw new ArchiveError('MEMBER_MISSING', { archivePath: this.#archive.path, member: this.#root });
    this.#check.end();
    await this.#extraction.finish();
  }

  [Symbol.dispose](): void {
    this.#extraction.close();
    closeSync(this.#fd);
  }
}
