import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { bytesFromJson, bytesToJson, type Destination, type JsonBytes, type Manifest } from '../../archive/index.js';
import type { DumpedFile } from '../../criu/index.js';

/** A tree that is not restored to where it was, although the restored processes look for their files there. */
export interface MovedTree {
  tree: string;
  source: JsonBytes;
  destination: JsonBytes;
  /** What they have open, mapped, as program or as directory there: the first few. */
  files: JsonBytes[];
  /** How many further ones there are. */
  more: number;
}

const MAX_FILES = 100;

/**
 * Trees that go elsewhere than they were although CRIU will open files at their old places. Where the old place leads to
 * the new one already, as a bind mount or a link does, all is well.
 */
export function findMovedTrees(
  { trees }: Manifest,
  destinations: readonly (readonly [name: string, destination: Destination])[],
  files: readonly DumpedFile[],
): MovedTree[] {
  const sources = new Map(trees.map(({ name, source }) => [name, source]));
  return destinations.flatMap(([tree, destination]) => {
    const source = sources.get(tree);
    if (typeof destination !== 'string' || source === undefined) return [];
    const old = bytesFromJson(source);
    const place = resolve(destination);
    if (old.length === 0 || old.equals(Buffer.from(place)) || isSame(old, place)) return [];
    const below = [...new Set(files.filter((file) => isBelow(file, old)).map(({ path }) => path.toString('latin1')))];
    if (below.length === 0) return [];
    return [
      {
        tree,
        source,
        destination: place,
        files: below.slice(0, MAX_FILES).map((path) => bytesToJson(Buffer.from(path, 'latin1'))),
        more: Math.max(0, below.length - MAX_FILES),
      },
    ];
  });
}

/** What the images hold themselves, CRIU opens nowhere. */
function isBelow({ path, remap, external }: DumpedFile, root: Buffer): boolean {
  if (remap !== undefined || external || !path.subarray(0, root.length).equals(root)) return false;
  return path.length === root.length || path[root.length] === 0x2f || root.at(-1) === 0x2f;
}

function isSame(old: Buffer, place: string): boolean {
  try {
    const [was, is] = [statSync(old, { bigint: true }), statSync(place, { bigint: true })];
    return was.dev === is.dev && was.ino === is.ino;
  } catch {
    return false;
  }
}
