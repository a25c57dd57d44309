/** Where the trees of an archive go, and how they take the place of what is there. */
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import {
  ArchiveError,
  extractTree,
  pathOf,
  type Destination,
  type HiddenTree,
  Replacement,
  type TreeRecord,
  type VerifiedArchive,
} from '../../archive/index.js';
import { bad } from '../base/check-option.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import type { ReplacedTree, RestoreReport } from '../events/report.js';
import type { Guardian } from '../guardian/guardian.js';
import type { RestoreOptions, RestoreSettings } from '../options.js';
import { printableJson } from '../warnings/outside-file.js';
import type { Undo } from './undo.js';

/**
 * Where each tree of the archive goes: a place that the archive recorded is not believed as one is that the caller
 * gives.
 */
export function treeDestinations(
  { manifest }: Pick<VerifiedArchive, 'manifest'>,
  { files, archive }: RestoreSettings,
): [name: string, destination: Destination][] {
  const trees = new Map(manifest.trees.map(({ name, source }) => [name, source]));
  for (const name of Object.keys(files)) {
    if (!trees.has(name))
      throw new CheckpointError('UNKNOWN_TREE', { tree: name, trees: [...trees.keys()].map(String) });
  }
  const named = [...trees].map(([name, source]): [string, Destination | undefined] => {
    if (typeof name !== 'string')
      throw new CheckpointError('NOT_A_CHECKPOINT', {
        archivePath: archive,
        what: 'the name of a file tree is not UTF-8',
      });
    const given = files[name];
    if (given !== undefined) return [name, given];
    return [name, typeof source === 'string' && source !== '' ? { recorded: source } : undefined];
  });
  const homeless = named.flatMap(([name, destination]) => (destination === undefined ? [name] : []));
  const [tree] = homeless;
  if (tree !== undefined) throw new CheckpointError('NO_DESTINATION', { tree, trees: homeless, archivePath: archive });
  return named as [string, Destination][];
}

/**
 * Where each destination leads before any tree is there. With `replaceFiles`, of two trees for one place the second
 * would take that of the first.
 * @throws CheckpointError BAD_OPTION for two trees that go to one place
 */
export async function ownPlaces(
  destinations: readonly [name: string, destination: Destination][],
): Promise<Map<string, string>> {
  const places = new Map<string, string>();
  const trees = new Map<string, string>();
  for (const [name, destination] of destinations) {
    const place = await placeOf(destination);
    const other = trees.get(place);
    if (other !== undefined)
      bad('files', place, `a place of its own for each tree: ${other} and ${name} would both go there`);
    trees.set(place, name);
    places.set(name, place);
  }
  return places;
}

export interface ExtractPlan {
  verified: VerifiedArchive;
  destinations: readonly [name: string, destination: Destination][];
  /** As `ownPlaces` found them. */
  places: ReadonlyMap<string, string>;
  /** Hands out those that the verification has made, hidden. */
  staged: { take(name: string): HiddenTree | undefined };
  guardian: Guardian;
  settings: RestoreSettings;
  options: RestoreOptions;
}

/**
 * Gives every tree its place; one that is to replace what is there is only made beside it. Those that the verification
 * has not made are extracted.
 * @param undo Told how each is removed again.
 * @returns what is to take the place of what
 */
export async function extractTrees(
  { verified, destinations, places, staged, guardian, settings: { replaceFiles }, options: { signal } }: ExtractPlan,
  undo: Undo,
): Promise<[tree: string, replacement: Replacement][]> {
  const replacements: [tree: string, replacement: Replacement][] = [];
  for (const [name, destination] of destinations) {
    await requirePlace(name, destination, places.get(name));
    const hidden = staged.take(name);
    if (hidden !== undefined) {
      undo.push(() => hidden.remove());
      if (hidden instanceof Replacement) replacements.push([name, hidden]);
      else await hidden.takePlace();
      continue;
    }
    const tree = await extractTree({
      verified,
      tree: name,
      destination,
      signal,
      onDestination: guardian.destinations,
      replace: replaceFiles === undefined ? undefined : { old: replaceFiles, watch: guardian.replacements },
    });
    undo.push(() => tree.remove());
    if (tree.replacement !== undefined) replacements.push([name, tree.replacement]);
  }
  return replacements;
}

/**
 * A tree that has been extracted before must not change where the next one goes: a link in it could lead anywhere.
 * @throws ArchiveError DESTINATION_UNSAFE
 */
async function requirePlace(tree: string, destination: Destination, place: string | undefined): Promise<void> {
  if ((await placeOf(destination)) === place) return;
  throw new ArchiveError('DESTINATION_UNSAFE', {
    path: pathOf(destination),
    what: `another tree of this archive, or somebody meanwhile, leads the tree ${tree} elsewhere`,
  });
}

/** The links on the way to a destination followed, as far as there is something. */
async function placeOf(destination: Destination): Promise<string> {
  const parts = pathOf(destination).split('/');
  for (let there = parts.length; there > 1; there--) {
    try {
      return join(await realpath(parts.slice(0, there).join('/')), ...parts.slice(there));
    } catch {
      // not there yet
    }
  }
  return join('/', ...parts);
}

/** Each in one step; the names of all are seen to be apart before the first. */
export async function takePlaces(replacements: readonly [string, Replacement][]): Promise<void> {
  const paths = replacements.map(([, { path }]) => path);
  const inner = paths.find((path) => paths.some((other) => path !== other && path.startsWith(`${other}/`)));
  if (inner !== undefined)
    throw new ArchiveError('DESTINATION_EXISTS', { path: inner, what: 'it lies in the place of another tree' });
  for (const [, replacement] of replacements) await replacement.takePlace();
}

export async function settled(replacements: readonly [string, Replacement][]): Promise<ReplacedTree[]> {
  const replaced: ReplacedTree[] = [];
  for (const [tree, replacement] of replacements) replaced.push({ tree, ...(await replacement.settle()) });
  return replaced;
}

/** What the checkpoint left out of the trees, for the report. */
export function excludedFrom(trees: readonly TreeRecord[]): RestoreReport['excluded'] {
  return trees.flatMap(({ name, exclude = [] }) =>
    exclude.length === 0 ? [] : [{ tree: printableJson(name), patterns: exclude.map(printableJson) }],
  );
}
