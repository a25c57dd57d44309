/** The file trees of a copy: its own, at the paths that they had. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError } from '../base/checkpoint-error.js';
import type { CopyInit } from './copy-init.js';
import type { MountPoint } from './mount-points.js';

/** By what means a copy has files of its own; `none` when its checkpoint has no file trees. */
export type CopyFiles = 'overlay' | 'reflink' | 'copy' | 'none';

export interface FilesPlan {
  init: CopyInit;
  /** The copy's own directory. */
  hidden: string;
  /** Where the trees are, each under its entry's name. */
  trees: string;
  /** They are the copy's own: it may write to them. */
  areOwn: boolean;
  places: readonly MountPoint[];
}

/**
 * Puts them in place, in the copy's mount namespace: an overlay over the prepared trees, else a copy by reference, else
 * a plain one. Each tree is bound to its place, so that its root is as it was, too.
 * @throws CheckpointError CLONE_FAILED
 */
export async function placeFiles(plan: FilesPlan): Promise<CopyFiles> {
  const { init, trees, areOwn, places } = plan;
  if (places.length === 0) return 'none';
  const { how, from } = areOwn ? { how: 'copy' as const, from: trees } : await ownFiles(plan);
  for (const { entry, path } of places) await init.bind(join(from, entry), path);
  // The places keep what they show; nobody in the copy finds the whole of it a second time.
  if (how === 'overlay') await init.detach(from);
  return how;
}

async function ownFiles({ init, hidden, trees }: FilesPlan): Promise<{ how: CopyFiles; from: string }> {
  for (const name of ['upper', 'work', 'merged']) mkdirSync(join(hidden, name), { mode: 0o700 });
  try {
    await init.overlay(trees, hidden);
    return { how: 'overlay', from: join(hidden, 'merged') };
  } catch (error) {
    if (!isRefusal(error)) throw error;
  }
  const from = join(hidden, 'files');
  try {
    mkdirSync(from, { mode: 0o700 });
    await init.copy('--reflink=always', `${trees}/.`, from);
    return { how: 'reflink', from };
  } catch (error) {
    if (!isRefusal(error)) throw error;
  }
  rmSync(from, { recursive: true });
  mkdirSync(from, { mode: 0o700 });
  await init.copy('--reflink=never', `${trees}/.`, from);
  return { how: 'copy', from };
}

/** The kernel, or the program, has said no. */
function isRefusal(error: unknown): error is CheckpointError {
  return error instanceof CheckpointError && error.code === 'CLONE_FAILED';
}
