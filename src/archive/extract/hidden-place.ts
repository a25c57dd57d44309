import { closeSync } from 'node:fs';
import { dirname } from 'node:path';
import { reopenDirectory } from '../../openat.js';
import { PrivateDirectory, type PrivateDirectoryWatch } from '../../private-directory.js';
import { ArchiveError } from '../format/archive-error.js';
import type { OpenDestination } from './destination.js';

/** What the files are called, or their directory, as long as they are hidden. */
export const TREE = Buffer.from('tree');

/** A hidden directory beside a destination, in which files are made that get their place by a rename. */
export class HiddenPlace {
  /** The destination's. */
  readonly parentFd: number;
  readonly hidden: PrivateDirectory;
  /** Of `tree` in it, where that is a directory. */
  readonly treeFd: number | undefined;
  /** Where the files are made. Its descriptor is the maker's to close. */
  readonly target: OpenDestination;

  private constructor(path: string, parentFd: number, isDirectory: boolean, watch: PrivateDirectoryWatch) {
    this.parentFd = parentFd;
    this.hidden = PrivateDirectory.make({ path: dirname(path), fd: reopenDirectory(parentFd) }, watch);
    this.treeFd = isDirectory ? this.hidden.makeInner(TREE.toString()).fd : undefined;
    this.target = {
      path,
      fd: reopenDirectory(this.treeFd ?? this.hidden.fd),
      fileName: isDirectory ? undefined : TREE.toString(),
      made: undefined,
      before: undefined,
    };
  }

  /**
   * @param parentFd Stays the caller's.
   * @throws ArchiveError EXTRACT_FAILED
   */
  static make(path: string, parentFd: number, isDirectory: boolean, watch: PrivateDirectoryWatch): HiddenPlace {
    const fd = reopenDirectory(parentFd);
    try {
      return new HiddenPlace(path, fd, isDirectory, watch);
    } catch (cause) {
      closeSync(fd);
      throw new ArchiveError('EXTRACT_FAILED', { path, what: 'no directory can be made beside it', cause });
    }
  }

  /** What is still in it is removed. */
  async close(): Promise<void> {
    try {
      await this.hidden.remove();
    } finally {
      closeSync(this.parentFd);
    }
  }
}
