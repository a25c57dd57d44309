/**
 * What Node 24's AsyncDisposableStack does: runs everything deferred, last first, whatever fails, and tells all
 * failures.
 */
export class Cleanup implements AsyncDisposable {
  readonly #steps: (() => PromiseLike<void>)[] = [];

  use<T extends AsyncDisposable>(value: T): T {
    this.defer(() => value[Symbol.asyncDispose]());
    return value;
  }

  defer(step: () => PromiseLike<void>): void {
    this.#steps.push(step);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    for (const step of this.#steps.splice(0).reverse()) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0)
      throw new AggregateError(failures, `what a case made was not all removed: ${failures.map(String).join('; ')}`);
  }
}
