/** What each part of the frozen window cost, in milliseconds. */
export interface WindowParts {
  /** From the write that asks for the freeze until the kernel said frozen. */
  freezeMs: number;
  /** The caller's `onFrozen`, and the looks around it at whether everything stands still. 0 without one. */
  callbackMs: number;
  /**
   * CRIU: from our answer to `pre-dump` until `post-dump`. Meanwhile the target is checked again and changed files are
   * copied.
   */
  dumpMs: number;
  /** Waiting, at `post-dump`, for the files that changed to be copied. */
  waitForFilesMs: number;
  /** CRIU: from our answer to `post-dump` until it had let every task go. */
  releaseMs: number;
  /** From the write that thaws until the kernel said running. */
  thawMs: number;
}

/** Says which part of a window took how long. */
export class PartClock<Part extends string> {
  readonly parts: Record<Part, number>;
  #start = 0;
  #last = 0;

  /** @param parts What there are, in their order. */
  constructor(...parts: Part[]) {
    this.parts = Object.fromEntries(parts.map((part) => [part, 0])) as Record<Part, number>;
  }

  get totalMs(): number {
    return Object.values<number>(this.parts).reduce((sum, ms) => sum + ms, 0);
  }

  /** By now, whichever part is under way. */
  get sinceStartMs(): number {
    return performance.now() - this.#start;
  }

  start(): void {
    this.#start = this.#last = performance.now();
  }

  /** What passed since the last mark belongs to this part. */
  mark(part: Part): void {
    const now = performance.now();
    this.parts[part] = now - this.#last;
    this.#last = now;
  }
}
