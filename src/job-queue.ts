/** A few jobs at a time: enough to keep the cores busy, few enough to bound the memory. */
export class JobQueue {
  readonly #most: number;
  readonly #running = new Set<Promise<void>>();
  #failure: { error: unknown } | undefined;

  constructor(most: number) {
    this.#most = most;
  }

  /** Resolves when the next one may be started. @throws What one of them rejected with */
  async add(job: Promise<void>): Promise<void> {
    const tracked: Promise<void> = job
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
    if (this.#running.size >= this.#most) await Promise.race(this.#running);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async settle(): Promise<void> {
    await Promise.all(this.#running);
  }

  async done(): Promise<void> {
    await this.settle();
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
