import { resolve } from 'node:path';
import {
  adopt,
  checkProcess,
  checkTarget,
  FreezerError,
  isFreezerError,
  openFreezer,
  type Adoption,
  type AdoptOptions,
  type CgroupMember,
  type Freezer,
} from '../../cgroup/index.js';
import type { FilesInUse, TreeSource } from '../../archive/index.js';
import type { ProcessInfo } from '../../proc/task.js';
import type { CriuDumpOptions } from '../../criu/index.js';
import { filesBehind, openForWriting, sharedWritableMappings, type FileInUse } from './files-in-use.js';

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
  /** For those who make targets of something larger, such as a container. */
  parts?: TargetParts;
}

export interface FileTree extends Pick<TreeSource, 'layout' | 'exclude' | 'oneFileSystem' | 'filter'> {
  /** Where it is on this machine. */
  path: string;
  /** The name it takes in the archive. */
  name: string;
}

/** What a maker of targets adds to a checkpoint. */
export interface TargetParts {
  /** What the manifest says was dumped, over what is said of a process tree; `kind` among it. */
  subject: Record<string, unknown>;
  /** The files among these that a scan meets under other numbers, by those. */
  scannedAs?: (files: readonly FileInUse[]) => FilesInUse;
  /**
   * Images and files are complete, and the archive is about to be sealed: returns further members. What it puts into
   * the images' directory is archived with them. It runs after the thaw; with `stop` before CRIU ends the tree.
   */
  complete?: (dumped: DumpedTarget) => Promise<ArchiveDocument[]>;
  /** Others are to be checkpointed in the same instant. */
  together?: Rendezvous;
}

/** Where targets of one instant wait for each other. Each call resolves when every target has got there; a rejection fails the checkpoint. */
export interface Rendezvous {
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
}

/** A further regular member: a small one, or a file of this machine of any size, left out where it is none (any more). */
export type ArchiveDocument = { name: string; data: Buffer } | { name: string; file: string };

/**
 * The target's freezer, its cgroup checked to hold the tree and nothing else; undefined for a tree that is to be
 * adopted, which has no cgroup of its own yet. Nothing is touched.
 * @throws FreezerError the codes of openFreezer, checkTarget and checkProcess
 */
export function findFreezer({ pid, cgroup, cgroupVersion, adopt: willAdopt }: Target): Freezer | undefined {
  checkProcess(pid);
  if (willAdopt === true) return undefined;
  const freezer = open({ pid, cgroup, cgroupVersion });
  checkTarget({ pid, cgroup: freezer.path });
  return freezer;
}

function open({ pid, cgroup, cgroupVersion: version }: Pick<Target, 'pid' | 'cgroup' | 'cgroupVersion'>): Freezer {
  try {
    return openFreezer(cgroup !== undefined ? { cgroup } : { pid, version });
  } catch (error) {
    if (!isFreezerError(error, 'CGROUP_IS_ROOT')) throw error;
    throw new FreezerError('CGROUP_IS_ROOT', { ...error.facts, mayAdopt: true });
  }
}

/** A target in its cgroup, ready to be frozen; leaving its scope gives an adopted tree back. */
export class ReadyTarget implements AsyncDisposable {
  readonly pid: number;
  readonly freezer: Freezer;
  /** Where the tree is at home: its cgroup's name in the hierarchy, before any adoption. */
  readonly home: { version: 1 | 2; name: string };
  readonly files: FileTree[];
  readonly criu: CriuDumpOptions;
  readonly parts: TargetParts;
  readonly #adoption: Adoption | undefined;

  private constructor(target: Target, freezer: Freezer, adoption: Adoption | undefined) {
    this.pid = target.pid;
    this.freezer = freezer;
    this.home = { version: freezer.version, name: adoption?.origin ?? freezer.cgroupName };
    this.files = (target.files ?? []).map((tree) => ({ ...tree, path: resolve(tree.path) }));
    this.criu = target.criu ?? {};
    this.parts = target.parts ?? { subject: {} };
    this.#adoption = adoption;
  }

  /**
   * @param freezer What findFreezer found; without one the tree is adopted.
   * @param watch Told of what an adoption is about to do.
   * @throws FreezerError the codes of adopt
   */
  static async make(
    target: Target,
    freezer: Freezer | undefined,
    watch: Pick<AdoptOptions, 'onMaking' | 'onMade' | 'onHomes'>,
  ): Promise<ReadyTarget> {
    if (freezer !== undefined) return new ReadyTarget(target, freezer, undefined);
    const adoption = await adopt({ pid: target.pid, version: target.cgroupVersion, ...watch });
    try {
      return new ReadyTarget(target, openFreezer({ cgroup: adoption.path }), adoption);
    } catch (error) {
      await adoption.release();
      throw error;
    }
  }

  /**
   * Every task of the tree is in the cgroup and nothing else is: sure only while it is frozen.
   * @param tree As the frozen tree was found: nothing in it can fork.
   */
  members(tree: readonly ProcessInfo[]): CgroupMember[] {
    return checkTarget({ pid: this.pid, cgroup: this.freezer.path, tree }).members;
  }

  /** What tasks have mapped shared and writable now. */
  mapped(pids: readonly number[]): FilesInUse {
    return this.#behind(sharedWritableMappings(pids));
  }

  /** What tasks have open for writing now. */
  writable(pids: readonly number[]): FilesInUse {
    return this.#behind(openForWriting(pids));
  }

  #behind(links: Iterable<string>): FilesInUse {
    const files = filesBehind(links);
    return new Set([...files.map(({ dev, ino }) => `${dev}:${ino}`), ...(this.parts.scannedAs?.(files) ?? [])]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#adoption?.release();
  }
}
