/** The file trees of an archive, made hidden beside their destinations by the pass that verifies it. */
import {
  isHeldOpen,
  pathOf,
  readManifestAhead,
  TreeStaging,
  type Destination,
  type HiddenTree,
  type ManifestAhead,
  type NamedDestination,
  type OpenArchive,
  type VerifyOptions,
} from '../../archive/index.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import type { Guardian } from '../guardian/guardian.js';
import type { RestoreSettings } from '../options.js';
import { ownPlaces, treeDestinations } from './destinations.js';
import { IMAGES_IN_ARCHIVE } from './unpack-images.js';

/** Each is known to the guardian by two records of its hundreds. */
const MAX_TREES = 64;
/** Longer ones have no room for a hidden name beside them: PATH_MAX. */
const MAX_PATH_BYTES = 4000;

/**
 * Where the trees go is in the manifest, which comes after them: it is read ahead, as a hint, and compared with what
 * the pass has verified. A tree that is not made here (there is no such hint, its destination is an empty directory,
 * or lies in that of another tree, ...) is extracted once the archive is verified, from a second reading.
 */
export class StagedTrees implements AsyncDisposable {
  readonly #ahead: ManifestAhead | undefined;
  /** By what each is called in the archive, in latin1. */
  readonly #staging: Map<string, TreeStaging>;
  readonly #hidden = new Map<string, HiddenTree>();
  #current: TreeStaging | undefined;

  private constructor(ahead: ManifestAhead | undefined, staging: Map<string, TreeStaging>) {
    this.#ahead = ahead;
    this.#staging = staging;
  }

  /** Nothing is made before the first member of a tree comes. */
  static async plan(archive: OpenArchive, settings: RestoreSettings, guardian: Guardian): Promise<StagedTrees> {
    const ahead = await readManifestAhead(archive);
    const destinations = ahead === undefined ? [] : await destinationsOf(ahead, settings);
    const { replaceFiles } = settings;
    const replace = replaceFiles === undefined ? undefined : { old: replaceFiles, watch: guardian.replacements };
    const staging = destinations.map(([name, destination]): [string, TreeStaging] => {
      const root = Buffer.from(name).toString('latin1');
      return [root, new TreeStaging(archive, root, { destination, watch: guardian.newTrees, replace })];
    });
    return new StagedTrees(ahead, new Map(staging));
  }

  /** For the pass, which says of each member where it goes; `images` has the first word. */
  verifyOptions(images: NonNullable<VerifyOptions['place']>): Pick<VerifyOptions, 'place' | 'ahead'> {
    return {
      ahead: this.#ahead,
      place: (member) => {
        this.#current = this.#staging.get(member.entry.name.toString('latin1')) ?? this.#current;
        return images(member) ?? this.#current?.place(member);
      },
    };
  }

  /** After the pass, when the archive has proven right. @throws the signal's reason */
  async finish(signal: AbortSignal | undefined): Promise<void> {
    for (const [root, staging] of this.#staging) {
      const tree = await staging.finished(signal);
      if (tree !== undefined) this.#hidden.set(Buffer.from(root, 'latin1').toString(), tree);
    }
  }

  /** A tree, which is the caller's from now on; undefined where it has to be extracted. */
  take(name: string): HiddenTree | undefined {
    const tree = this.#hidden.get(name);
    this.#hidden.delete(name);
    return tree;
  }

  /** @throws CheckpointError LEFT_BEHIND */
  async [Symbol.asyncDispose](): Promise<void> {
    const steps = [
      ...[...this.#staging.values()].map((staging) => ({ path: staging.path, done: staging.discard() })),
      ...[...this.#hidden.values()].map((tree) => ({ path: tree.path, done: tree.remove() })),
    ];
    const ends = await Promise.allSettled(steps.map(({ done }) => done));
    ends.forEach((end, i) => {
      if (end.status === 'rejected')
        throw new CheckpointError('LEFT_BEHIND', { path: steps[i]!.path, cause: end.reason as unknown });
    });
  }
}

/** Those that can be made beside their places; none, where something is wrong: the restore will find it again. */
async function destinationsOf(
  { manifest }: ManifestAhead,
  settings: RestoreSettings,
): Promise<[name: string, destination: NamedDestination][]> {
  let destinations: [string, Destination][];
  let places: string[];
  try {
    destinations = treeDestinations({ manifest }, settings);
    places = [...(await ownPlaces(destinations)).values()];
  } catch {
    return [];
  }
  // What is hidden beside one of these would lie in the place of another.
  const isNested = places.some((place) => places.some((other) => place.startsWith(`${other}/`)));
  if (isNested || places.length > MAX_TREES) return [];
  const others = new Set(manifest.trees.filter(({ layout }) => layout === 'nested').map(({ name }) => name));
  // Whoever named a tree so: the files in it are the images, too.
  others.add(IMAGES_IN_ARCHIVE);
  return destinations.flatMap(([name, destination]) =>
    isHeldOpen(destination) || others.has(name) || Buffer.byteLength(pathOf(destination)) > MAX_PATH_BYTES
      ? []
      : [[name, destination]],
  );
}
