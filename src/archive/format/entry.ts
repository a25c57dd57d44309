/**
 * One member of an archive, as the file system has it. Names and attributes are bytes: Linux paths are
 * not text, and an archive that guesses an encoding damages them.
 */
export interface Entry {
  /** Path inside the archive, without leading or trailing slash. */
  name: Buffer;
  type: EntryType;
  /** Permission bits, 0o7777. */
  mode: number;
  uid: number;
  gid: number;
  /** Apparent size of a regular file in bytes; 0 for everything else. */
  size: number;
  mtimeNs: bigint;
  /** Target of a symbolic link, or the archive name of the member that a hard link repeats. */
  linkname?: Buffer;
  devmajor?: number;
  devminor?: number;
  xattrs?: Xattr[];
  /** Data ranges of a sparse file in ascending order; absent when the file has no holes. */
  data?: ByteRange[];
}

export type EntryType = 'file' | 'directory' | 'symlink' | 'hardlink' | 'fifo' | 'character-device' | 'block-device';

export interface Xattr {
  name: Buffer;
  value: Buffer;
}

export interface ByteRange {
  offset: number;
  length: number;
}
