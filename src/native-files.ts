/** Types of native/scan.c, native/copy.c and native/files.c. */
/** native/files.c. Paths are relative to a directory's descriptor; errors are errno errors. */
export interface ExtractNative {
  /** Always close-on-exec. `resolve` is RESOLVE_* of openat2(2). */
  openat2(dirfd: number, path: Buffer, flags: number, mode: number, resolve: number): number;
  mkdirat(dirfd: number, path: Buffer, mode: number): void;
  /** The mode holds the file type too. */
  mknodat(dirfd: number, path: Buffer, mode: number, major: number, minor: number): void;
  symlinkat(target: Buffer, dirfd: number, path: Buffer): void;
  linkat(olddirfd: number, oldpath: Buffer, newdirfd: number, newpath: Buffer, flags: number): void;
  unlinkat(dirfd: number, path: Buffer, flags: number): void;
  renameat2(olddirfd: number, oldpath: Buffer, newdirfd: number, newpath: Buffer, flags: number): void;
  fchownat(dirfd: number, path: Buffer, uid: number, gid: number, flags: number): void;
  fchmodat(dirfd: number, path: Buffer, mode: number, flags: number): void;
  /** Sets the modification time only. An empty path is the descriptor's own file. */
  utimensat(dirfd: number, path: Buffer, seconds: number, nanoseconds: number, flags: number): void;
  fsetxattr(fd: number, name: Buffer, value: Buffer): void;
  /** For a descriptor opened with O_PATH; through /proc/self/fd. */
  setxattrPathFd(fd: number, name: Buffer, value: Buffer): void;
  /**
   * Copies ranges in a thread, with copy_file_range where the file systems can: for each, four numbers: source
   * offset, destination descriptor, destination offset, length. Rejects with an errno error whose `range` is the
   * index of the range that failed; ENODATA when the source ends early.
   */
  copyRanges(srcFd: number, ranges: Float64Array): Promise<void>;
}

export type FilesNative = ExtractNative;
