import type { Rendezvous } from '../checkpoint/window/target.js';

type Place = keyof Rendezvous;

/**
 * Checkpoints that run side by side meet at the same places: none goes on before all have got there. When one fails,
 * the others are told so wherever they wait or come to wait, and fail too.
 */
export class Meeting {
  /** When the last one got to each place, in milliseconds of the wall clock. */
  readonly times: Partial<Record<Place, number>> = {};
  readonly #count: number;
  readonly #arrived: Record<Place, number> = { ready: 0, frozen: 0, dumped: 0, sealed: 0 };
  readonly #gates: Record<Place, PromiseWithResolvers> = {
    ready: gate(),
    frozen: gate(),
    dumped: gate(),
    sealed: gate(),
  };

  constructor(count: number) {
    this.#count = count;
  }

  readonly rendezvous: Rendezvous = {
    ready: () => this.#arrive('ready'),
    frozen: () => this.#arrive('frozen'),
    dumped: () => this.#arrive('dumped'),
    sealed: () => this.#arrive('sealed'),
  };

  /** Nobody will get any further. */
  fail(error: unknown): void {
    for (const { reject } of Object.values(this.#gates)) reject(error);
  }

  #arrive(place: Place): Promise<void> {
    const { promise, resolve } = this.#gates[place];
    if (++this.#arrived[place] === this.#count) {
      this.times[place] = Date.now();
      resolve();
    }
    return promise;
  }
}

interface PromiseWithResolvers {
  promise: Promise<void>;
  resolve: () => void;
  reject: (error: unknown) => void;
}

function gate(): PromiseWithResolvers {
  let resolve!: () => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<void>((ok, no) => {
    resolve = ok;
    reject = no;
  });
  // Whoever waits hears of it; that nobody waits is no failure.
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}
