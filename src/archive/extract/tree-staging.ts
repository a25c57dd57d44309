import { closeSync } from 'node:fs';
import type { OpenArchive } from '../read/reader.js';
import { pathOf, type NamedDestination, type RootEntry } from './destination.js';
import { NewTree, type NewTreeWatch } from './new-tree.js';
import { Replacement, type ReplaceOptions } from './replacement.js';
import { Staging } from './staging.js';

/** A tree that is whole, and hidden until it takes its place. */
export type HiddenTree = NewTree | Replacement;

export interface TreeStagingOptions {
  destination: NamedDestination;
  watch: NewTreeWatch;
  /** See ExtractOptions. */
  replace: ReplaceOptions | undefined;
}

/**
 * A file tree on its way into a hidden directory beside its destination. A destination that is there, and is not to be
 * replaced, has no such place: an empty directory, which may be a mount point, keeps its inode, attributes and quota,
 * and is extracted into. Nor has one that cannot be used; extracting into it says why.
 */
export class TreeStaging extends Staging {
  readonly #options: TreeStagingOptions;
  #tree: HiddenTree | undefined;

  /** @param root What the tree is called in the archive, in latin1. */
  constructor(archive: OpenArchive, root: string, options: TreeStagingOptions) {
    super(archive, root, {}, (entry) => this.#beside(entry));
    this.#options = options;
  }

  get path(): string {
    return pathOf(this.#options.destination);
  }

  async #beside(root: RootEntry): Promise<HiddenTree['target'] | undefined> {
    const { destination, watch, replace } = this.#options;
    if (replace !== undefined) this.#tree = await Replacement.open(destination, root, replace);
    this.#tree ??= await NewTree.open(destination, root, watch);
    return this.#tree?.target;
  }

  /**
   * After the verification. The tree is the caller's from then on.
   * @returns undefined where it has to be extracted, because it has no hidden place, or because something is wrong with
   * it: then nothing of it is left, and extracting it says what is wrong
   */
  async finished(signal: AbortSignal | undefined): Promise<HiddenTree | undefined> {
    try {
      await this.finish(signal);
    } catch {
      signal?.throwIfAborted();
      await this.discard();
      return undefined;
    }
    return this.#letGo();
  }

  /** Nothing of it is left. */
  async discard(): Promise<void> {
    await this.#letGo()?.remove();
  }

  #letGo(): HiddenTree | undefined {
    const tree = this.#tree;
    this.#tree = undefined;
    this[Symbol.dispose]();
    if (tree !== undefined) closeSync(tree.target.fd);
    return tree;
  }
}
