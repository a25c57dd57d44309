import type { Warning } from '../warnings/warning.js';
import type { Entry, FilesInUse, TreeSource } from '../../archive/index.js';
import type { CriuDumpOptions } from '../../criu/index.js';
import type { ProgramOrigin } from '../program/record.js';
import type { FileInUse } from './files-in-use.js';

/** What is checkpointed. A plain object: a runtime can build one by hand. */
export interface Target {
  /** The root of the process tree. */
  pid: number;
  /** Directory of its freezer cgroup. Default: found from /proc/PID/cgroup. */
  cgroup?: string;
  /** Which freezer, where the process is in a cgroup of both (hybrid layout). */
  cgroupVersion?: 1 | 2;
  /** Move the tree into a cgroup of its own for the checkpoint, and back. Default false: such a target is refused. */
  adopt?: boolean;
  /** File trees, or single files, that go into the archive. */
  files?: FileTree[];
  /** CRIU options over the ones that Stillframe chooses. */
  criu?: CriuDumpOptions;
  /**
   * The name that the tree runs under, and how it was started: `target` of `start()` and `findProgram()`. The archive
   * says so, and a restore gives the name again; the program's log is no file that the archive lacks.
   */
  program?: ProgramOrigin | undefined;
  /** @internal For those who make targets of something larger, such as a container. */
  parts?: TargetParts;
}

export interface FileTree extends Pick<TreeSource, 'layout' | 'exclude' | 'oneFileSystem' | 'filter' | 'mayVanish'> {
  /**
   * Where it is on this machine. It ends in no symbolic link, and leads through none that another user could have put
   * there: else the checkpoint fails with ArchiveError TREE_UNSAFE.
   */
  path: string;
  /** The name it takes in the archive. */
  name: string;
  /** @internal Where a restore puts it: its path in the mount namespace of the target. Default: `path`. */
  recordedAs?: string;
}

/** What a maker of targets adds to a checkpoint. */
export interface TargetParts {
  /** What the manifest says was dumped, over what is said of a process tree; `kind` among it. */
  subject: Record<string, unknown>;
  /** The files among these that a scan meets under other numbers, by those. */
  scannedAs?: (files: readonly FileInUse[], signal?: AbortSignal) => Promise<FilesInUse>;
  /**
   * A path of the target's, of a file that is none of a tree's, as a path of this machine; undefined where CRIU's
   * images hold the file. Default: the path itself.
   */
  onHost?: (path: Buffer) => Buffer | undefined;
  /**
   * Images and files are complete, and the archive is about to be sealed: returns further members. What it puts into
   * the images' directory is archived with them. It runs after the thaw; with `stop` before CRIU ends the tree.
   */
  complete?: (dumped: DumpedTarget) => Promise<ArchiveDocument[]>;
  /** What is known to be lost of it, beside what every checkpoint looks for. */
  warnings?: readonly Warning[];
  /** The target is a container, into which commands may be sent (exec, health checks, probes): they are waited for. */
  guests?: boolean;
  /**
   * The target is a copy: CRIU runs in the namespaces of its pid 1, by a program that enters them
   * (native/init/enter.c).
   */
  inside?: { init: number; program: string };
  /** Others are to be checkpointed in the same instant. */
  together?: Rendezvous;
}

/**
 * Where targets of one instant wait for each other. Each call resolves when every target has got there; a rejection
 * fails the checkpoint.
 */
export interface Rendezvous {
  /** The target could be frozen now: CRIU is ready, and nobody else is in its cgroup. */
  ready(): Promise<void>;
  /** The target is frozen, verified; nothing of it has been dumped. */
  frozen(): Promise<void>;
  /** Memory and files are complete, and the target is still held. */
  dumped(): Promise<void>;
  /** With `stop`: the archive is safe on disk, and the target is about to be ended. */
  sealed(): Promise<void>;
}

export interface DumpedTarget {
  imagesDir: string;
  /** Below the root of a file tree, all that it held; what its filter left out included. */
  livePaths(treeName: string): Iterable<Buffer>;
  /** Appends members without data to a file tree of layout `nested`: marks that whoever unpacks its tar understands. */
  append(treeName: string, entries: readonly Entry[]): void;
}

/**
 * A further regular member: a small one, or a file of this machine of any size, left out where it is none (any more).
 */
export type ArchiveDocument = { name: string; data: Buffer } | { name: string; file: string };
