/** Lets a number of jobs run at once; the others wait, in the order of the calls. */
export class Semaphore {
  #free: number;
  readonly #places: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = this.#places = places;
  }

  /** No job runs or waits. */
  get idle(): boolean {
    return this.#free === this.#places;
  }

  async run<T>(job: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await job();
    } finally {
      // A place is handed on, not freed: a call that comes at this moment cannot overtake those that wait.
      const next = this.#waiting.shift();
      if (next === undefined) this.#free++;
      else next();
    }
  }
}
