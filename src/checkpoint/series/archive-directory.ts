import { closeSync, constants, fstatSync, fsyncSync, openSync, readdirSync, statSync, unlinkSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { lstatAt, O_PATH, pathOfFd, reopenDirectory, withFd } from '../../openat.js';
import { openTrusted, UntrustedDirectoryError } from '../../trusted-directory.js';
import { CheckpointError } from '../base/checkpoint-error.js';

/** A file of the directory, links not followed. */
export interface ArchiveFile {
  name: string;
  bytes: number;
  uid: number;
  mode: number;
  mtimeMs: number;
  /** Changes when the file is another one, or another's contents are in it. */
  identity: string;
}

/** A directory of archives, held open: what is listed, read and removed is in this one, whatever its path leads to. */
export class ArchiveDirectory implements Disposable {
  private constructor(
    readonly path: string,
    readonly fd: number,
    /** Why others than root and the caller could put another in its place; undefined when they cannot. */
    readonly unsafe: string | undefined,
  ) {}

  /** @throws CheckpointError ARCHIVE_DIR_UNUSABLE */
  static async open(dir: string): Promise<ArchiveDirectory> {
    const path = resolve(dir);
    try {
      try {
        const trusted = await openTrusted(path);
        return new ArchiveDirectory(path, trusted.fd, undefined);
      } catch (error) {
        if (!(error instanceof UntrustedDirectoryError)) throw error;
        return new ArchiveDirectory(path, openSync(path, O_PATH | constants.O_DIRECTORY), error.message);
      }
    } catch (cause) {
      throw new CheckpointError('ARCHIVE_DIR_UNUSABLE', { dir: path, why: 'cannot be opened', cause });
    }
  }

  pathOf(name: string): string {
    return join(this.path, name);
  }

  /** Regular files, hidden ones left out: those are archives that are just being written. */
  files(): ArchiveFile[] {
    return readdirSync(pathOfFd(this.fd)).flatMap((name) => {
      const stat = name.startsWith('.') ? undefined : lstatAt(this.fd, Buffer.from(name));
      if (stat?.isFile() !== true) return [];
      const { size, uid, mode, mtimeMs, dev, ino, mtimeNs } = stat;
      const identity = [dev, ino, size, mtimeNs].join(':');
      return [{ name, bytes: Number(size), uid: Number(uid), mode: Number(mode), mtimeMs: Number(mtimeMs), identity }];
    });
  }

  /** For reading. @throws errno errors */
  async openFile(name: string): Promise<FileHandle> {
    const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_NOCTTY } = constants;
    return open(join(pathOfFd(this.fd), name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  }

  /** @throws errno errors */
  remove(name: string): void {
    unlinkSync(join(pathOfFd(this.fd), name));
  }

  /** Makes removals last. */
  sync(): void {
    withFd(reopenDirectory(this.fd), fsyncSync);
  }

  /**
   * What is written by its path is written here.
   * @throws CheckpointError ARCHIVE_DIR_UNUSABLE
   */
  requireInPlace(): void {
    const own = fstatSync(this.fd, { bigint: true });
    const found = statSync(this.path, { bigint: true, throwIfNoEntry: false });
    if (found?.dev === own.dev && found.ino === own.ino) return;
    const why = found === undefined ? 'has been removed or renamed' : 'has been replaced by another directory';
    throw new CheckpointError('ARCHIVE_DIR_UNUSABLE', { dir: this.path, why });
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}
