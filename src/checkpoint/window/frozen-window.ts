import { isFreezerError, type Freezer } from '../../cgroup/index.js';
import { CheckpointError } from '../base/checkpoint-error.js';

export interface FrozenWindowOptions {
  freezeTimeoutMs: number;
  thawTimeoutMs: number;
  signal?: AbortSignal | undefined;
}

/**
 * The time in which nothing of the target runs: opened by a verified freeze, closed by a verified thaw.
 * Leaving its scope closes it whatever happened; a cgroup that was frozen before we came stays frozen.
 */
export class FrozenWindow implements AsyncDisposable {
  /** The cgroup was frozen by itself before we came; it is left so. */
  readonly foundFrozen: boolean;
  readonly #freezer: Freezer;
  readonly #options: FrozenWindowOptions;
  #isOpen = false;

  /** Nothing is frozen yet: `open` does that. Reads what the cgroup is now, so that it can be left as found. */
  constructor(freezer: Freezer, options: FrozenWindowOptions) {
    this.#freezer = freezer;
    this.#options = options;
    const { selfFrozen, frozenAncestor } = freezer.state();
    if (frozenAncestor !== undefined)
      throw new CheckpointError('ANCESTOR_FROZEN', { cgroup: freezer.path, path: frozenAncestor });
    this.foundFrozen = selfFrozen;
  }

  get cgroup(): string {
    return this.#freezer.path;
  }

  get version(): 1 | 2 {
    return this.#freezer.version;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  async open(): Promise<void> {
    this.#isOpen = true;
    const { freezeTimeoutMs: timeoutMs, signal } = this.#options;
    // Also for a cgroup found frozen: its freeze may still be under way.
    await this.#freezer.freeze({ timeoutMs, signal });
  }

  /**
   * After CRIU has let go: it wrote the freeze back before it detached, and did not wait for it. If that
   * wish is gone, somebody else thawed the cgroup under our hands.
   * @throws CheckpointError THAWED_BY_OTHERS
   */
  async verifyHeld(): Promise<void> {
    if (!this.#freezer.state().selfFrozen)
      throw new CheckpointError('THAWED_BY_OTHERS', { cgroup: this.#freezer.path });
    await this.#freezer.freeze({ timeoutMs: this.#options.freezeTimeoutMs });
  }

  /** Thaws and waits until the kernel says so, or the cgroup is gone. Harmless when the window is not open. */
  async close(): Promise<void> {
    if (!this.#isOpen) return;
    try {
      if (this.foundFrozen) await this.#freezer.freeze({ timeoutMs: this.#options.freezeTimeoutMs });
      else await this.#freezer.thaw({ timeoutMs: this.#options.thawTimeoutMs });
    } catch (error) {
      // Only an empty cgroup can be removed: a runtime that watches its container does so as soon as the tree has
      // ended.
      if (!isFreezerError(error, 'CGROUP_GONE')) throw error;
    }
    this.#isOpen = false;
  }

  /**
   * Closes it because of a failure, which is the caller's to throw.
   * @throws CheckpointError LEFT_FROZEN with both errors, when this fails as well
   */
  async closeAfter(error: unknown): Promise<void> {
    try {
      await this.close();
    } catch (thawError) {
      throw new CheckpointError('LEFT_FROZEN', {
        cgroup: this.cgroup,
        cause: new AggregateError([error, thawError], 'the work failed, and so did the thaw'),
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
