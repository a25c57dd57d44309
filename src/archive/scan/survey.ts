import { setTimeout as sleep } from 'node:timers/promises';
import { notifiesWrites } from './copy-trust.js';
import type { PatternUse } from './excludes.js';
import { canBeWatched, ScannedTree, tellsAll, type FileTreeOptions } from './scanned-tree.js';

/** What a tree holds, and what changed in it while it was watched. */
export interface TreeSurvey {
  /** Files, directories and all else, the root among them. */
  entries: number;
  /** The apparent size of its regular files. */
  bytes: number;
  /** What was made or changed between two looks, and how long the second took, in milliseconds. */
  changed: { entries: number; bytes: number };
  lookMs: number;
  /** No copy made before the freeze can be believed there (tmpfs, network file systems): all files count as changed. */
  isAlwaysCopied: boolean;
  /** The kernel can tell what changes, so that not every file need be looked at. */
  canBeWatched: boolean;
  patterns: PatternUse[];
}

interface Looked extends TreeSurvey {
  files: ScannedTree;
}

/**
 * Looks at trees twice and reads no file. One that cannot be archived has its ArchiveError in the place of a survey.
 * @param observeMs How long to wait between the two looks.
 * @throws the signal's reason
 */
export async function surveyTrees(
  trees: readonly (FileTreeOptions & { path: string | Buffer })[],
  { observeMs, signal }: { observeMs: number; signal?: AbortSignal | undefined },
): Promise<PromiseSettledResult<TreeSurvey>[]> {
  const opened = trees.map((tree) => new ScannedTree(tree.path, tree));
  try {
    const first = await settled(opened, (files) => lookFirst(files, signal));
    signal?.throwIfAborted();
    if (first.some(({ status }) => status === 'fulfilled')) await sleep(observeMs, undefined, { signal });
    const second = await settled(first, (look) => lookAgain(look, signal));
    signal?.throwIfAborted();
    return second;
  } finally {
    for (const files of opened) files.close();
  }
}

async function lookFirst(files: ScannedTree, signal: AbortSignal | undefined): Promise<Looked> {
  const result = await files.scan({ signal });
  const always = result.fileSystems.some((fileSystem) => !notifiesWrites(fileSystem));
  return {
    files,
    entries: count(files, 'added'),
    bytes: result.bytes,
    changed: { entries: 0, bytes: 0 },
    lookMs: 0,
    isAlwaysCopied: always,
    canBeWatched: tellsAll && canBeWatched(result),
    patterns: [],
  };
}

async function lookAgain(look: PromiseSettledResult<Looked>, signal: AbortSignal | undefined): Promise<TreeSurvey> {
  if (look.status === 'rejected') throw look.reason;
  const { files, ...survey } = look.value;
  const started = performance.now();
  const { bytes } = await files.scan({ signal });
  return {
    ...survey,
    changed: { entries: count(files, 'added') + count(files, 'changed'), bytes },
    lookMs: performance.now() - started,
    patterns: files.patternUses(),
  };
}

function count(files: ScannedTree, what: 'added' | 'changed'): number {
  let entries = 0;
  for (const ids of files.news(what)) entries += ids.length;
  return entries;
}

/** One after another: each scan takes threads of its own. */
async function settled<T, R>(items: readonly T[], act: (item: T) => Promise<R>): Promise<PromiseSettledResult<R>[]> {
  const results: PromiseSettledResult<R>[] = [];
  for (const item of items) results.push(...(await Promise.allSettled([act(item)])));
  return results;
}
