import { setTimeout as sleep } from 'node:timers/promises';

interface Stops {
  all: Set<() => void>;
  listener: () => void;
}

const stopsOf = new WeakMap<AbortSignal, Stops>();

/**
 * Calls `stop` once when the signal is aborted, at once when it is already. One listener serves all that one signal can
 * stop: from the eleventh on Node warns of a leak, on stderr. Not `AbortSignal.any`: a caller's signal may live for as
 * long as its program, and what hangs on it has to be taken off again.
 * @returns what takes it back
 */
export function whenAborted(signal: AbortSignal | undefined, stop: () => void): () => void {
  if (signal === undefined) return () => undefined;
  if (signal.aborted) {
    stop();
    return () => undefined;
  }
  let stops = stopsOf.get(signal);
  if (stops === undefined) {
    const all = new Set<() => void>();
    stops = { all, listener: () => [...all].forEach((each) => each()) };
    stopsOf.set(signal, stops);
  }
  const { all, listener } = stops;
  if (all.add(stop).size === 1) signal.addEventListener('abort', listener, { once: true });
  return () => {
    if (all.delete(stop) && all.size === 0) signal.removeEventListener('abort', listener);
  };
}

/** A signal that is aborted after `ms` milliseconds, or with the caller's. */
export class Patience implements Disposable {
  readonly #own = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #forget: () => void;

  constructor(ms: number, signal?: AbortSignal) {
    this.#timer = setTimeout(() => this.#own.abort(), ms);
    this.#forget = whenAborted(signal, () => this.#own.abort(signal?.reason));
  }

  get signal(): AbortSignal {
    return this.#own.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#forget();
  }
}

/**
 * Resolves after `ms` milliseconds. @throws the signal's reason when it is aborted: Node's own sleep throws an error of
 * its own
 */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
