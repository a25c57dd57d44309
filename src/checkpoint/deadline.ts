import { CheckpointError } from './checkpoint-error.js';

export interface DeadlineOptions {
  /** How long the window may be open, in milliseconds. Default: for ever. */
  maxFrozenMs?: number | undefined;
  /** The caller's own signal: it cancels too, at any time. */
  signal?: AbortSignal | undefined;
  /** Asked when the time is up: what is under way. */
  phase: () => string;
}

/**
 * Bounds the time in which the target stands still. `signal` is what everything inside the window listens to:
 * it is aborted with DEADLINE_EXCEEDED when the time is up, and with the caller's reason when the caller cancels.
 *
 * `AbortSignal.any` and `AbortSignal.timeout` are not used: the time runs only while the window is open, and
 * the caller's signal may live for as long as its program, so that what hangs on it has to be taken off again.
 */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #options: DeadlineOptions;
  readonly #onAbort = (): void => this.#controller.abort(this.#options.signal?.reason);
  #timer: NodeJS.Timeout | undefined;

  constructor(options: DeadlineOptions) {
    this.#options = options;
    if (options.signal?.aborted === true) this.#onAbort();
    else options.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The error, once the time was up: it says more than the errors of what it cancelled. */
  get exceeded(): CheckpointError<'DEADLINE_EXCEEDED'> | undefined {
    const { reason } = this.#controller.signal as { reason: unknown };
    return reason instanceof CheckpointError && reason.code === 'DEADLINE_EXCEEDED' ? (reason as CheckpointError<'DEADLINE_EXCEEDED'>) : undefined;
  }

  /** The window opens: call it right before the freeze. */
  start(): void {
    const { maxFrozenMs, phase } = this.#options;
    if (maxFrozenMs === undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.#controller.abort(new CheckpointError('DEADLINE_EXCEEDED', { maxFrozenMs, phase: phase() })), maxFrozenMs);
  }

  /** The window is closed, or its end is being made: nothing is cancelled for slowness any more. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Something failed: whatever else is under way inside the window is of no use any more. */
  cancel(reason: unknown): void {
    this.#controller.abort(reason);
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
  }
}
