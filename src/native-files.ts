/** Types of what native/ does with files. */
/** native/addon/files.c. Paths are relative to a directory's descriptor; errors are errno errors. */
export interface ExtractNative {
  /** Always close-on-exec. `resolve` is RESOLVE_* of openat2(2): src/openat.ts has the sets that are in use. */
  openat2(dirfd: number, path: Buffer, flags: number, mode: number, resolve: number): number;
  mkdirat(dirfd: number, path: Buffer, mode: number): void;
  /** The mode holds the file type too. */
  mknodat(dirfd: number, path: Buffer, mode: number, major: number, minor: number): void;
  /** An empty path is the link that the descriptor is, opened with O_PATH | O_NOFOLLOW. */
  readlinkat(dirfd: number, path: Buffer): Buffer;
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

/**
 * native/tree/tree.h: what the last scan of a tree saw. Its entries have ids, which stay the same from scan to scan.
 */
export type NativeTree = object;

export interface NativeScanOptions {
  /** What the root must still be; an empty one is not asked. */
  path: Buffer;
  threads: number;
  /** In seconds. */
  hotSinceSec: number;
  /** In milliseconds. */
  stillSinceMs: number;
  oneFileSystem: boolean;
  /** Patterns for paths below the root (native/tree/exclude.h), each with a zero byte after it. */
  excludes: Buffer;
  /** Where the kernel tells what has changed, these are looked at besides. */
  inodes: BigUint64Array;
}

/** native/tree/ and native/archive/. Promises reject with errno errors. */
export interface StageNative {
  treeCreate(): NativeTree;
  /** Lets go of the directory that the tree holds open; the entries stay readable. */
  treeClose(tree: NativeTree): void;
  /**
   * What is under way with the tree's files (scan, watch, describe, copy) rejects with ECANCELED as soon as it can.
   */
  treeCancel(tree: NativeTree): void;
  /** Nobody waits for it any more: it does not keep the process alive. */
  treeAbandon(tree: NativeTree): void;
  /** What is looked at from the next scan on: a descriptor with O_PATH, which becomes the tree's own. */
  treeRoot(tree: NativeTree, fd: number): void;
  /**
   * Lets the kernel tell what happens on the tree's file system (native/tree/watch.h), but to these files, so that
   * every scan after the next one looks only at that. Rejects where the kernel cannot, or the tree is no directory.
   */
  treeWatch(tree: NativeTree, ignoredFds: Int32Array): Promise<void>;
  treeUnwatch(tree: NativeTree): void;
  /**
   * Scans and compares with the scan before: see `treeNews`. Rejects with ESTALE, `syscall: root`, where the path names
   * something else than the root by now.
   * 32-bit words: the counts of three lists and of file systems, the bytes in all files added or changed (two words,
   * low first), 1 when the kernel had told what changed, how many entries were looked at, and one more than the id of
   * an entry that is different although it has not changed since `stillSinceMs`, or 0; then the lists: ids on another
   * mount than their parent, pairs of id and errno, new files changed since `hotSinceSec` (the latest, at most 16,384,
   * in the order of their change); then for each file system its device, its statfs type, and the id of an entry on it.
   */
  treeScan(tree: NativeTree, options: NativeScanOptions): Promise<Buffer>;
  /**
   * Whether these patterns (native/tree/exclude.h), each with a zero byte after it, leave out a path below the root, by
   * itself or with a directory above it. Throws EINVAL where they have too many parts.
   */
  excludeMatches(patterns: Buffer, path: Buffer): boolean;
  /**
   * Puts ids that the last scan added (0), saw changed (1) or removed (2) into `ids`, from this one on; returns how
   * many.
   */
  treeNews(tree: NativeTree, what: number, from: number, ids: Uint32Array): number;
  /**
   * Two words, which say how many members are ready and for how many small files' contents there was no room, then a
   * `struct record` (native/archive/describe.c) for each other id; where `others` names another entry for it, with that
   * one's path. Small files' contents go into `data` while they fit. With a `prefix` for names, files of the usual kind
   * come as whole members (native/archive/member.c), each with a `struct ready` in `ready` and with `hash` its two
   * SHA-256, of header with padding and of data, in `digests`. Resolves with the length of what is in `records`; or
   * with all of it, where it does not fit there.
   */
  treeDescribe(
    tree: NativeTree,
    ids: Uint32Array,
    hash: boolean,
    data: Buffer,
    ready: Buffer,
    digests: Buffer,
    records: Buffer,
    prefix: Buffer | undefined,
    others: Uint32Array | undefined,
  ): Promise<number | Buffer>;
  /** Puts the path below the root into `into`, and tells its length. */
  treePath(tree: NativeTree, id: number, into: Buffer): number;
  /** Ids, 32 bits each, of the entries with one of these inode numbers, on whichever device. Sorts its argument. */
  treeFind(tree: NativeTree, inodes: BigUint64Array): Promise<Buffer>;
  /**
   * Writes header, data and padding of each entry into the file. `ops`: seven numbers each (id, bytes of header,
   * offset, bytes of data, number of data ranges, kind, where in `read` the data already is or -1), then offset and
   * length of each range. Kinds: 0 a header alone, 1 a header with data, 2 bytes of `read` that are whole members.
   * Each gets a `status` (0, 1 gone, 2 changed, or -errno of the source) and in `digests` two SHA-256, of header with
   * padding and of data, where `hash` asks for them and the kind is not 2. With `ahead` the kernel is asked to begin
   * writing all of it to disk. Rejects when the file cannot be written.
   */
  copyBatch(
    fd: number,
    tree: NativeTree,
    ops: Float64Array,
    headers: Buffer,
    read: Buffer,
    status: Int32Array,
    digests: Buffer,
    hash: boolean,
    ahead: boolean,
  ): Promise<void>;
  /** Copies (from, to, length) triples from one file into another, or downwards within one. */
  moveRanges(from: number, to: number, triples: Float64Array): Promise<void>;
  /**
   * Puts two SHA-256, of header with padding and of data, into `digests` for each (offset, bytes of header, bytes of
   * data) of a file.
   */
  hashMembers(fd: number, members: Float64Array, digests: Buffer): Promise<void>;
  /**
   * Reads each member of an archive once: puts the SHA-256 of its header with padding into `digests`, its
   * `HASH  NAME` line into `lines`, and its data into the file that it is for. Six numbers a member: offset, bytes of
   * header, bytes of data, bytes of its name in `names` (-1: no line), descriptor (-1: none), ranges. A range is an
   * offset in that file and a length. `control`: 1 in the first word stops it (ECANCELED), the second counts chunks of
   * 256 KiB and members. Resolves with the bytes of the lines. Rejects with an errno error with the index of the
   * `member`, and the `syscall` `read` (ENODATA when the archive ends early) or `write`.
   */
  passMembers(
    archiveFd: number,
    members: Float64Array,
    ranges: Float64Array,
    names: Buffer,
    digests: Buffer,
    lines: Buffer,
    control: Uint32Array,
  ): Promise<number>;
  /**
   * Puts `HASH  NAME` lines for these ids into `into`; `rows` says which pair of `digests` is whose. `prefix` ends in a
   * slash. Resolves with how many had room, and with the bytes of their lines. Room for the longest: `MAX_LINE_BYTES`
   * and twice the prefix.
   */
  memberLines(
    tree: NativeTree,
    prefix: Buffer,
    ids: Uint32Array,
    rows: Uint32Array,
    digests: Buffer,
    into: Buffer,
  ): Promise<[done: number, bytes: number]>;
}

/** native/remove/remove-job.c. */
export interface RemoveNative {
  /**
   * Removes an entry of the directory with all below it, in a thread; with an empty name all that is in the directory.
   * Follows no link, enters no mount. Rejects with ECANCELED soon after `cancelled[0]` has been set to 1, with EXDEV or
   * EBUSY at a mount point.
   */
  removeAt(dirfd: number, name: Buffer, cancelled: Int32Array): Promise<void>;
}

/** native/addon/locks.c */
export interface LocksNative {
  /**
   * Has the stopped or waiting process set POSIX record locks, four numbers each: descriptor, F_RDLCK (0) or F_WRLCK
   * (1), start, length. `results` gets 0 or an errno for each. Rejects with an errno error where it could not be asked:
   * EPERM for a process that cannot be traced, EAGAIN for one that is in no system call, ENOSYS where the machine is
   * no x86-64.
   */
  setPosixLocks(pid: number, locks: BigInt64Array, results: Int32Array): Promise<void>;
}

/** native/addon/descriptors.c */
export interface DescriptorsNative {
  /**
   * Borrows descriptors of a process. `options` has three numbers each: level, option, and when it counts; `groups`, of
   * 24 bytes each, are multicast groups. `differs` gets a byte for each option of each descriptor: 1 where it is not as
   * on a new socket of that kind and network namespace. Rejects with an errno error when the process cannot be asked.
   */
  lookAtDescriptors(
    pid: number,
    fds: Int32Array,
    options: Int32Array,
    groups: Uint8Array,
    differs: Uint8Array,
  ): Promise<void>;
}

/** native/addon/look-up.c */
export interface LookUpNative {
  /**
   * Which files the paths (each with a zero byte after it) lead to, in a thread of its own that does not keep the
   * process alive. Four 64-bit numbers for each: device as stat(2) has it, inode, type as in a mode, and an errno or 0.
   */
  lookUp(paths: Buffer, follow: boolean, stamps: boolean): Promise<Buffer>;
}

/** native/addon/open-entry.c */
export interface OpenEntryNative {
  /**
   * Opens an entry of a directory (O_PATH), a link itself unless `follow` asks for what it leads to; in a thread of its
   * own that does not keep the process alive. 64 bits each: descriptor, device as stat(2) has it, inode, mode, owner,
   * 1 for a link of procfs; then what a link says.
   */
  openEntry(dirfd: number, name: Buffer, follow: boolean): Promise<Buffer>;
}

export type FilesNative = ExtractNative &
  StageNative &
  RemoveNative &
  LocksNative &
  DescriptorsNative &
  LookUpNative &
  OpenEntryNative;
