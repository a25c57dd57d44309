import { statfsSync } from 'node:fs';
import type { CriuDumpOptions, CriuDumpRequest } from '../../criu/index.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { tryWrite } from '../base/failed-place.js';
import { runningPids } from '../base/pids.js';
import type { ProcessInfo } from '../../proc/task.js';

export interface DumpPlan {
  pid: number;
  /** The tree as it is now. */
  tree: readonly ProcessInfo[];
  freezeCgroup: string;
  /** Descriptors: CRIU opens what they hold, and no path. */
  imagesDir: number;
  workDir: number;
  leaveRunning: boolean;
  /** What the caller wants otherwise. */
  overrides: CriuDumpOptions;
}

/** The name of CRIU's log in the work directory, and of its copy in the archive. */
export const DUMP_LOG = 'dump.log';

/**
 * What a deleted file that is still open may weigh to be put into the images, in bytes. CRIU's own default of 1 MiB
 * makes it refuse a tree for an ordinary temporary file.
 */
export const GHOST_LIMIT = 256 * 1024 * 1024;

/** What Stillframe asks of CRIU for a dump. */
export function dumpOptions({ pid, tree, overrides, ...dirs }: DumpPlan): CriuDumpRequest {
  return {
    logFile: DUMP_LOG,
    logLevel: 2,
    // A lock that a task of the tree holds belongs to the checkpoint; without this CRIU refuses such a tree.
    fileLocks: true,
    shellJob: sessionIsOutside(tree),
    ghostLimit: GHOST_LIMIT,
    ...overrides,
    pid,
    ...dirs,
  };
}

/** A tree whose session leader is not part of it, such as a shell's job: CRIU wants to be told. */
export function sessionIsOutside(tree: readonly ProcessInfo[]): boolean {
  const inside = new Set(tree.map(({ pid }) => pid));
  return tree.some(({ session, group }) => !(inside.has(session) && inside.has(group)));
}

/**
 * Makes the reason of a failed dump plain where CRIU's own words do not: a full or dead disk, a target that ended.
 * The error as it came is the cause.
 */
export function explainDumpFailure(
  error: unknown,
  plan: { pid: number; imagesDir: string; neededBytes: number },
): unknown {
  if (runningPids(plan.pid).length === 0) return new CheckpointError('TARGET_GONE', { pid: plan.pid, cause: error });
  const freeBytes = freeBytesAt(plan.imagesDir);
  const reason = tryWrite(plan.imagesDir);
  // No inode or a quota left is as full as no byte.
  if (freeBytes < Math.min(1 << 20, plan.neededBytes) || reason === 'ENOSPC' || reason === 'EDQUOT') {
    return new CheckpointError('IMAGES_FULL', {
      path: plan.imagesDir,
      freeBytes,
      neededBytes: plan.neededBytes,
      cause: error,
    });
  }
  return reason === undefined
    ? error
    : new CheckpointError('IMAGES_FAILED', { path: plan.imagesDir, reason, cause: error });
}

/** Infinite where nobody can be asked. */
function freeBytesAt(path: string): number {
  try {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  } catch {
    return Infinity;
  }
}
