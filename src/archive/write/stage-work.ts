export interface StageProgress {
  /** Bytes of file data copied since the call, and the bytes that are to be copied as far as is known. */
  done: number;
  total: number;
  unit: 'bytes';
  /** `precopy`, after a pass: how long `refresh` would take now, in milliseconds. */
  predictedWindowMs?: number;
}

export interface Copied {
  files: number;
  bytes: number;
}

interface WorkOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: StageProgress) => void) | undefined;
}

/** What one call has done so far, and whether it may go on. */
export class StageWork {
  readonly #copied: Copied;
  readonly #options: WorkOptions;
  #done = 0;
  #total = 0;

  constructor(copied: Copied, options: WorkOptions) {
    this.#copied = copied;
    this.#options = options;
  }

  expect(bytes: number): void {
    this.#total += bytes;
  }

  readonly onCopied = (files: number, bytes: number): void => {
    this.#copied.files += files;
    this.#copied.bytes += bytes;
    this.#done += bytes;
    this.#tell({});
    this.throwIfAborted();
  };

  predict(predictedWindowMs: number): void {
    this.#tell({ predictedWindowMs });
  }

  get signal(): AbortSignal | undefined {
    return this.#options.signal;
  }

  throwIfAborted(): void {
    this.#options.signal?.throwIfAborted();
  }

  #tell(more: { predictedWindowMs?: number }): void {
    this.#options.onProgress?.({ done: this.#done, total: Math.max(this.#done, this.#total), unit: 'bytes', ...more });
  }
}
