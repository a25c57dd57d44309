import { channel } from 'node:diagnostics_channel';
import type { Warning } from '../warnings/warning.js';

/**
 * The steps of a checkpoint, of a freeze (`whileFrozen`), of a `prepare` and of a restore, in the order in which they
 * first begin; a restore's `thaw` comes before its `lazy-pages`. `callback` is the caller's own work in the frozen
 * window.
 */
export type Phase =
  | 'resolve'
  | 'lock'
  | 'guardian'
  | 'adopt'
  | 'precopy'
  | 'pre-dump'
  | 'start-criu'
  | 'dump'
  | 'freeze'
  | 'callback'
  | 'refresh'
  | 'thaw'
  | 'seal'
  | 'retry'
  | 'verify'
  | 'wait-pids'
  | 'extract'
  | 'record'
  | 'replace'
  | 'place-files'
  | 'check-files'
  | 'restore'
  | 'lazy-pages'
  | 'settle';

/** What `onProgress` is called with, and what is published on the channel `stillframe:phase`. */
export interface PhaseEvent {
  operation: 'checkpoint' | 'freeze' | 'prepare' | 'restore';
  /** Tells apart operations that run side by side in one process. */
  id: string;
  phase: Phase;
  at: 'start' | 'progress' | 'end' | 'failed';
  /** Milliseconds since the operation began. */
  sinceMs: number;
  /** `end` and `failed`: how long the phase took. */
  durationMs?: number;
  /** `progress`: work done so far, in `unit`s. */
  done?: number;
  /** `progress`: the work in all, when it is known. */
  total?: number;
  unit?: 'bytes' | 'files';
  /** A prediction of the frozen window, in milliseconds, when one is known. */
  predictedWindowMs?: number;
  /** `failed`: why. `retry`: why the attempt before it failed. */
  error?: unknown;
  /** `retry`: the number of the attempt that follows, from 2. */
  attempt?: number;
}

/**
 * One frozen window, told when it is closed: what `onWindow` is called with, and what is published on
 * `stillframe:window`.
 */
export interface WindowEvent {
  /** The operation's, as in its phase events. */
  id: string;
  /** The root of the tree, undefined where a cgroup was named without one; and the directory of its cgroup. */
  pid: number | undefined;
  cgroup: string;
  /** How long the tree stood still, in milliseconds, however it ended. */
  windowMs: number;
  /**
   * `dumped`: a checkpoint's; `done`: that of a `whileFrozen`; `failed`: cancelled, refused by CRIU, past its
   * deadline...; it was thawed all the same.
   */
  outcome: 'dumped' | 'done' | 'failed';
  /** `failed`: why. */
  error?: unknown;
}

export type OnWindow = (event: WindowEvent) => void;

/** A warning, told when it is found: what `onWarning` is called with, and what is published on `stillframe:warning`. */
export interface WarningEvent {
  operation: PhaseEvent['operation'];
  /** The operation's, as in its phase events. */
  id: string;
  warning: Warning;
}

export type OnWarning = (event: WarningEvent) => void;

export type OnProgress = (event: PhaseEvent) => void;

/** The diagnostics channel on which every phase of every operation in this process is published. */
export const PHASE_CHANNEL = 'stillframe:phase';

/** The diagnostics channel on which every frozen window in this process is published. */
export const WINDOW_CHANNEL = 'stillframe:window';

/** The diagnostics channel on which every warning in this process is published. */
export const WARNING_CHANNEL = 'stillframe:warning';

const phaseChannel = channel(PHASE_CHANNEL);
const windowChannel = channel(WINDOW_CHANNEL);
const warningChannel = channel(WARNING_CHANNEL);
let operations = 0;

/** Who is told besides the channels' subscribers. */
export interface Listeners {
  onProgress?: OnProgress | undefined;
  onWindow?: OnWindow | undefined;
  onWarning?: OnWarning | undefined;
}

/** Runs an operation's phases, tells the world about each, and remembers how long each took. */
export class Phases {
  readonly id: string;
  readonly durationsMs: Partial<Record<Phase, number>> = {};
  readonly #operation: PhaseEvent['operation'];
  readonly #listeners: Listeners;
  readonly #start = performance.now();
  readonly #running = new Set<Phase>();

  constructor(operation: PhaseEvent['operation'], listeners: Listeners) {
    this.#operation = operation;
    this.#listeners = listeners;
    this.id = `${process.pid}-${++operations}`;
  }

  get elapsedMs(): number {
    return performance.now() - this.#start;
  }

  /** Whether anybody is told: what only serves to tell can be left undone. */
  get listened(): boolean {
    return this.#listeners.onProgress !== undefined || phaseChannel.hasSubscribers;
  }

  /** What is under way now, in words: phases can overlap. */
  get current(): string {
    return [...this.#running].join(' and ') || 'nothing';
  }

  /** @param facts Told with the phase's start. */
  async run<T>(
    phase: Phase,
    work: () => T | Promise<T>,
    facts: Pick<PhaseEvent, 'attempt' | 'error'> = {},
  ): Promise<T> {
    const start = performance.now();
    this.#running.add(phase);
    this.#tell({ phase, at: 'start', ...facts });
    try {
      const result = await work();
      try {
        this.#tell({ phase, at: 'end', durationMs: this.#took(phase, start) });
      } catch (error) {
        await dispose(result);
        throw error;
      }
      return result;
    } catch (error) {
      this.#tell({ phase, at: 'failed', durationMs: this.#took(phase, start), error });
      throw error;
    } finally {
      this.#running.delete(phase);
    }
  }

  /** For what tells of its bytes by itself. */
  bytesOf(phase: Phase): (progress: { bytes: number; totalBytes: number }) => void {
    return ({ bytes, totalBytes }) => this.progress(phase, { done: bytes, total: totalBytes, unit: 'bytes' });
  }

  progress(phase: Phase, facts: Pick<PhaseEvent, 'done' | 'total' | 'unit' | 'predictedWindowMs'>): void {
    this.#tell({ phase, at: 'progress', ...facts });
  }

  /** A frozen window has been closed. */
  window(event: Omit<WindowEvent, 'id'>): void {
    const whole: WindowEvent = { id: this.id, ...event };
    windowChannel.publish(whole);
    this.#listeners.onWindow?.(whole);
  }

  /** A warning has been found. */
  warning(warning: Warning): void {
    const whole: WarningEvent = { operation: this.#operation, id: this.id, warning };
    warningChannel.publish(whole);
    this.#listeners.onWarning?.(whole);
  }

  #took(phase: Phase, start: number): number {
    const ms = performance.now() - start;
    this.durationsMs[phase] = (this.durationsMs[phase] ?? 0) + ms;
    return ms;
  }

  #tell(event: Omit<PhaseEvent, 'operation' | 'id' | 'sinceMs'>): void {
    if (!this.listened) return;
    const whole: PhaseEvent = { operation: this.#operation, id: this.id, sinceMs: this.elapsedMs, ...event };
    phaseChannel.publish(whole);
    this.#listeners.onProgress?.(whole);
  }
}

/** What a phase has made, a lock or a process, and nobody gets: a listener has thrown. */
async function dispose(made: unknown): Promise<void> {
  if (typeof made !== 'object' || made === null) return;
  const { [Symbol.asyncDispose]: later, [Symbol.dispose]: now } = made as Partial<AsyncDisposable & Disposable>;
  if (later === undefined) now?.call(made);
  else await later.call(made);
}
