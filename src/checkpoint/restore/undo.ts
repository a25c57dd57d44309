/** What has been made so far, and how each of it is taken back. */
export class Undo {
  readonly #work: string;
  readonly #steps: (() => Promise<void>)[] = [];

  /** @param work What it is made for, in errors. */
  constructor(work = 'restore') {
    this.#work = work;
  }

  push(step: () => Promise<void>): void {
    this.#steps.push(step);
  }

  /** Everything stays. */
  forget(): void {
    this.#steps.length = 0;
  }

  /**
   * Takes everything back, the last first, whatever one of the steps does.
   * @param onDone Called when nothing is left.
   * @returns the error that made it necessary, or one of it and the failures of the steps
   */
  async after(error: unknown, onDone: () => void = () => undefined): Promise<unknown> {
    const failures: unknown[] = [];
    for (const step of this.#steps.splice(0).reverse())
      await step().catch((failure: unknown) => failures.push(failure));
    if (failures.length > 0)
      return new AggregateError([error, ...failures], `the ${this.#work} failed, and so did a part of undoing it`);
    onDone();
    return error;
  }
}
