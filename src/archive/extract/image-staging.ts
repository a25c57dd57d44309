import { closeSync } from 'node:fs';
import { reopenDirectory } from '../../openat.js';
import type { OpenArchive } from '../read/reader.js';
import { Staging } from './staging.js';

/** CRIU's images on their way into a directory of ours. The rules are those of `extractMembers` with `images`. */
export class ImageStaging extends Staging {
  readonly #fd: number;

  /**
   * @param root What the directory of the images is called in the archive.
   * @param directory Empty, and nobody else's. It stays the caller's.
   */
  constructor(archive: OpenArchive, root: string, directory: { path: string; fd: number }) {
    const fd = reopenDirectory(directory.fd);
    const target = { path: directory.path, fd, fileName: undefined, made: undefined, before: undefined };
    super(archive, root, { images: true }, () => target);
    this.#fd = fd;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    closeSync(this.#fd);
  }
}
