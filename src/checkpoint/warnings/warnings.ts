import { CheckpointError } from '../base/checkpoint-error.js';
import type { Phases } from '../events/phases.js';
import type { Warning } from './warning.js';

/** The warnings of one attempt of an operation, in the order in which they were found. */
export class Warnings {
  readonly list: Warning[] = [];
  readonly #phases: Phases;
  /** Each warning is a refusal. */
  readonly strict: boolean;

  constructor(phases: Phases, strict: boolean) {
    this.#phases = phases;
    this.strict = strict;
  }

  /**
   * Keeps what has been found, and tells of it. What must be undone when this throws is the caller's to undo, as after
   * any other failure.
   * @throws CheckpointError WARNINGS_REFUSED, with `strict`
   */
  add(...found: Warning[]): void {
    this.list.push(...found);
    for (const warning of found) this.#phases.warning(warning);
    this.refuse(found);
  }

  /**
   * Refuses, with `strict`, what is known early, so that nothing has to be undone for it. It is found again when it
   * counts.
   * @throws CheckpointError WARNINGS_REFUSED
   */
  refuse(found: readonly Warning[]): void {
    if (this.strict && found.length > 0) throw new CheckpointError('WARNINGS_REFUSED', { warnings: [...found] });
  }
}
