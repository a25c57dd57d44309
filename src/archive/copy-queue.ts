const MAX_COPIES = 3;

/** A few copies at a time: enough to keep the cores busy, few enough to bound the memory. */
export class CopyQueue {
  readonly #running = new Set<Promise<void>>();
  #failure: { error: unknown } | undefined;

  async add(copy: Promise<void>): Promise<void> {
    const tracked: Promise<void> = copy
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
    if (this.#running.size >= MAX_COPIES) await Promise.race(this.#running);
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
