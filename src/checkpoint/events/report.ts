import type { DumpStats } from '../../criu/index.js';
import type { Phase } from './phases.js';
import type { PreDumpRound } from '../dump/pre-dump.js';
import type { WindowParts } from '../window/part-clock.js';
import type { TreeEnd } from '../../tree-end.js';
import type { Warning } from '../warnings/warning.js';

/** What a checkpoint did, and what each part of it took. Times in milliseconds, sizes in bytes. */
export interface CheckpointReport {
  /** Undefined when it went to a stream. */
  archivePath: string | undefined;
  archiveBytes: number;
  /** The root of the tree, and all its processes as they were in the archive's instant. */
  pid: number;
  pids: number[];
  cgroup: { version: 1 | 2; path: string; adopted: boolean };
  /**
   * How long the tree stood still, in the attempt that succeeded: from the write that asks for the freeze to the
   * verified thaw.
   */
  windowMs: number;
  /** How many windows there were: those before this one were refused by CRIU for something that passed (`retries`). */
  attempts: number;
  /** What each part of the window cost. */
  window: WindowParts;
  /** The whole checkpoint, from the call to the archive safe on disk. */
  totalMs: number;
  phasesMs: Partial<Record<Phase, number>>;
  files: {
    /** Copied while the target ran. */
    precopied: { files: number; bytes: number };
    /** Copied inside the window, because they had changed. */
    refreshed: { files: number; bytes: number };
  };
  /** The rounds that wrote memory before the window; none without `preDump`. */
  preDumps: PreDumpRound[];
  /** What CRIU itself measured; undefined when it wrote no statistics. */
  criuStats: DumpStats | undefined;
  criu: { path: string; version: string };
  /** The cgroup was frozen before we came, and was left so. */
  foundFrozen: boolean;
  /** The tree was ended, as asked. */
  stopped: boolean;
  /** It has its terminal from outside, as a shell's job does: the restore has to be given one. */
  needsTerminal: boolean;
  /** The guardian was killed by somebody: from then on nobody would have thawed the tree if this process had died. */
  guardianLost: boolean;
  /**
   * What the archive does not hold, or a restore will not bring back; the manifest has them too. With `strict` none.
   */
  warnings: Warning[];
}

/** What a `whileFrozen` did, and what each part of it took. Times in milliseconds, by CLOCK_MONOTONIC. */
export interface FrozenReport<T> {
  /** What the callback returned. */
  result: T;
  /** The root of the tree, undefined where a cgroup was named without one; and all processes that stood still. */
  pid: number | undefined;
  pids: number[];
  cgroup: { version: 1 | 2; path: string; adopted: boolean };
  /** How long they stood still: from the write that asks for the freeze to the verified thaw. */
  windowMs: number;
  /** What each part of the window cost. */
  window: {
    /** From the write that asks for the freeze until the kernel said frozen. */
    freezeMs: number;
    /** The callback, and the looks before and after it at whether everything stands still. */
    callbackMs: number;
    /** From the write that thaws until the kernel said running. */
    thawMs: number;
  };
  /** From the call to the end, adoption and giving back included. */
  totalMs: number;
  phasesMs: Partial<Record<Phase, number>>;
  /** The cgroup was frozen before we came, and was left so. */
  foundFrozen: boolean;
  /** The guardian was killed by somebody: from then on nobody would have thawed the tree if this process had died. */
  guardianLost: boolean;
}

export interface RestoreReport {
  /**
   * Resolves when the root of the restored tree has ended, at once when it has already. The tree is no child of this
   * process, which has one descriptor open until then; only who waits keeps the event loop alive. `signal` ends the
   * waiting, with its reason; the tree runs on.
   */
  ended(options?: { signal?: AbortSignal | undefined }): Promise<TreeEnd>;
  /** The root of the restored tree, and all its processes. */
  pid: number;
  pids: number[];
  /** The name that it runs under, if it has one. */
  name: string | undefined;
  /** Directory of the cgroup it was restored into; undefined when that is this process's own. */
  cgroup: string | undefined;
  /** What a copy has of its own; undefined for a plain restore. */
  clone?: CloneReport;
  /** It has the terminal that was given. */
  hasTerminal: boolean;
  /** Files that were there before, and that others have taken the place of (`replaceFiles`). */
  replaced: ReplacedTree[];
  /** File trees of which the checkpoint left files out, and by which patterns (`exclude`). */
  excluded: { tree: string; patterns: string[] }[];
  /** What is not as it was at the checkpoint. With `strict` none. */
  warnings: Warning[];
  totalMs: number;
  phasesMs: Partial<Record<Phase, number>>;
  criu: { path: string; version: string };
}

/** A copy. Its `pid` and `pids` are as this process sees them; inside it has those of the checkpoint. */
export interface CloneReport {
  /** Its pid 1, which is not of the tree: it passes signals on to the tree's root, and ends with the last process. */
  init: number;
  /** By what means it has files of its own: `none` when its checkpoint has no file trees. */
  files: 'overlay' | 'reflink' | 'copy' | 'none';
  /** As asked for. */
  net: string;
  hostname: string | undefined;
}

export interface ReplacedTree {
  /** The tree's name in the archive, and where it is now. */
  tree: string;
  path: string;
  /** Where what was there before is now; undefined when it was removed. */
  keptAs: string | undefined;
  /** Why it is not removed, or not under the name that it should have; a part of it may be gone where it should be. */
  problem: string | undefined;
}
