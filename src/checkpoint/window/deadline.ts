import { readProcess } from '../../proc/task.js';
import { whenAborted } from '../../when-aborted.js';
import { CheckpointError } from '../base/checkpoint-error.js';

export interface DeadlineOptions {
  /** How long the window may be open, in milliseconds. Default: for ever. */
  maxFrozenMs?: number | undefined;
  /** How long CRIU may take from its start until it is ready to seize, in milliseconds. Default: for ever. */
  criuStartTimeoutMs?: number | undefined;
  /** The caller's own signal: it cancels too, at any time. */
  signal?: AbortSignal | undefined;
  /** Asked when the time is up: what is under way. */
  phase: () => string;
}

/** How often a CRIU is looked at that must not be stopped. */
const LOOK_MS = 250;

/** Node's timers take no more: a longer time would be up at once. Some 24 days. */
const LONGEST_TIMER_MS = 0x7fff_ffff;

/**
 * Bounds the time in which the target stands still, and before it the time that CRIU takes to get ready: a CRIU that
 * hangs there (or is stopped) holds nothing, but would keep its caller waiting for ever. `signal` is what everything
 * listens to: it is aborted with DEADLINE_EXCEEDED or CRIU_NOT_READY when a time is up, and with the caller's reason
 * when the caller cancels.
 *
 * `AbortSignal.timeout` is not used: the time runs only while the window is open.
 */
export class Deadline implements Disposable {
  readonly #controller = new AbortController();
  readonly #options: DeadlineOptions;
  readonly #forget: () => void;
  #timer: NodeJS.Timeout | undefined;
  #endsAtMs: number | undefined;
  #exceeded: CheckpointError | undefined;

  constructor(options: DeadlineOptions) {
    this.#options = options;
    this.#forget = whenAborted(options.signal, () => this.#controller.abort(options.signal?.reason));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The error, once a time was up: it says more than the errors of what it cancelled. */
  get exceeded(): CheckpointError | undefined {
    return this.#exceeded;
  }

  /** When an open window has to be closed, by `performance.now()`; undefined without a limit. */
  get endsAtMs(): number | undefined {
    return this.#endsAtMs;
  }

  /**
   * Whoever has held the event loop has held up the timer, too: asks the clock.
   * @param cause What else went wrong: it may be because of the lateness.
   * @throws what `signal` is aborted with
   */
  check(cause?: unknown): void {
    const { maxFrozenMs, phase } = this.#options;
    if (maxFrozenMs !== undefined && this.#endsAtMs !== undefined && performance.now() >= this.#endsAtMs)
      this.#exceed(new CheckpointError('DEADLINE_EXCEEDED', { maxFrozenMs, phase: phase(), cause }));
    this.signal.throwIfAborted();
  }

  /** CRIU has been started and gets ready; the window's opening ends this time. */
  awaitCriu(pid: number): void {
    const { criuStartTimeoutMs: timeoutMs } = this.#options;
    if (timeoutMs === undefined) return;
    this.#run(
      timeoutMs,
      () => new CheckpointError('CRIU_NOT_READY', { pid, timeoutMs, state: readProcess(pid)?.state ?? '?' }),
    );
  }

  /**
   * CRIU writes memory ahead of the window, from its start to its answer, for as long as that takes. Only one that
   * somebody has stopped is given up, for it may hold the tree still: after the shorter of the two times.
   */
  awaitPreDump(pid: number): void {
    const { criuStartTimeoutMs = Infinity, maxFrozenMs = Infinity } = this.#options;
    const timeoutMs = Math.min(criuStartTimeoutMs, maxFrozenMs);
    if (timeoutMs === Infinity) return;
    let stoppedSince: number | undefined;
    this.#timer = setInterval(
      () => {
        const state = readProcess(pid)?.state;
        if (state !== 'T') stoppedSince = undefined;
        else if (performance.now() - (stoppedSince ??= performance.now()) >= timeoutMs)
          this.#exceed(new CheckpointError('CRIU_NOT_READY', { pid, timeoutMs, state, during: 'pre-dump' }));
      },
      Math.min(timeoutMs, LOOK_MS),
    );
  }

  /** The window opens: call it right before the freeze. */
  start(): void {
    this.stop();
    const { maxFrozenMs, phase } = this.#options;
    if (maxFrozenMs === undefined) return;
    this.#endsAtMs = performance.now() + maxFrozenMs;
    this.#run(maxFrozenMs, () => new CheckpointError('DEADLINE_EXCEEDED', { maxFrozenMs, phase: phase() }));
  }

  /**
   * The window is closed, or its end is being made, or CRIU has answered: nothing is cancelled for slowness any more.
   */
  stop(): void {
    clearTimeout(this.#timer);
  }

  #run(ms: number, error: () => CheckpointError): void {
    this.#timer = setTimeout(() => this.#exceed(error()), Math.min(ms, LONGEST_TIMER_MS));
  }

  #exceed(error: CheckpointError): void {
    if (this.#controller.signal.aborted) return;
    this.#exceeded = error;
    this.#controller.abort(error);
  }

  /** Something failed: whatever else is under way inside the window is of no use any more. */
  cancel(reason: unknown): void {
    this.#controller.abort(reason);
  }

  [Symbol.dispose](): void {
    this.stop();
    this.#forget();
  }
}
