import { closeSync, openSync, writeSync } from 'node:fs';
import { StillframeError, type PhaseEvent, type WarningEvent, type WindowEvent } from '../index.js';
import { json } from './output.js';

/**
 * Phases, windows and warnings as JSON lines, appended one whole line a write, so that a reader never meets half of
 * one. Events of progress are left out: the file tells what happened, not how it went on.
 */
export class EventLog implements Disposable {
  readonly #fd: number;

  constructor(path: string) {
    this.#fd = openSync(path, 'a', 0o600);
  }

  write(event: PhaseEvent): void {
    if (event.at === 'progress') return;
    this.#append('phase', event);
  }

  writeWindow(event: WindowEvent): void {
    this.#append('window', event);
  }

  writeWarning(event: WarningEvent): void {
    this.#append('warning', event);
  }

  #append(
    event: 'phase' | 'window' | 'warning',
    { error, ...facts }: (PhaseEvent | WindowEvent | WarningEvent) & { error?: unknown },
  ): void {
    const shown = error instanceof StillframeError ? error.toJSON() : error === undefined ? undefined : String(error);
    const line = json({ time: new Date().toISOString(), event, ...facts, error: shown }, 0);
    writeSync(this.#fd, `${line}\n`);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
