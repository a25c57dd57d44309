import { closeSync, openSync, writeSync } from 'node:fs';
import { StillframeError, type PhaseEvent } from '../index.js';

/**
 * Phase events as JSON lines, appended one whole line a write, so that a reader never meets half of one. Events
 * of progress are left out: the file tells what happened, not how it went on.
 */
export class EventLog implements Disposable {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, 'a', 0o600);
  }

  write(event: PhaseEvent): void {
    if (event.at === 'progress') return;
    const { error, ...rest } = event;
    const shown = error instanceof StillframeError ? error.toJSON() : error === undefined ? undefined : String(error);
    writeSync(this.#fd, `${JSON.stringify({ time: new Date().toISOString(), ...rest, error: shown })}\n`);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
