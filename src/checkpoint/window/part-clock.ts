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

/** Says which part of the window took how long. */
export class PartClock {
  readonly parts: WindowParts = { freezeMs: 0, callbackMs: 0, dumpMs: 0, waitForFilesMs: 0, releaseMs: 0, thawMs: 0 };
  #start = 0;
  #last = 0;

  get totalMs(): number {
    return Object.values(this.parts).reduce((sum: number, ms: number) => sum + ms, 0);
  }

  /** By now, whichever part is under way. */
  get sinceStartMs(): number {
    return performance.now() - this.#start;
  }

  start(): void {
    this.#start = this.#last = performance.now();
  }

  /** What passed since the last mark belongs to this part. */
  mark(part: keyof WindowParts): void {
    const now = performance.now();
    this.parts[part] = now - this.#last;
    this.#last = now;
  }
}
