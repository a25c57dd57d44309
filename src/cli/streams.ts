import { setImmediate as immediate } from 'node:timers/promises';
import { visible } from '../visible.js';

let hasReader = true;

/** Whoever reads stdout may have read enough (`| head`): that is no failure of ours, and no stack trace is due. */
export function endQuietlyWithoutReader(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    hasReader = false;
  });
}

/** Nothing more has to be worked out for it. */
export class ReaderGone extends Error {
  override readonly name = 'ReaderGone';
}

const CHUNK_CHARS = 1 << 16;

/** For stdout, as `print`, for text of any length: it goes out as fast as it is read, and is not held. */
export class LongOutput {
  #text = '';

  /** @throws ReaderGone, from the promise */
  add(text: string): Promise<void> | undefined {
    this.#text += text;
    return this.#text.length < CHUNK_CHARS ? undefined : this.flush();
  }

  /** @throws ReaderGone */
  async flush(): Promise<void> {
    const text = this.#text;
    this.#text = '';
    // The callback comes in any case, with an error too. That there is no reader is known after it.
    await new Promise<void>((resolve) => process.stdout.write(visible(text), () => resolve()));
    await immediate();
    if (!hasReader) throw new ReaderGone();
  }
}

/** For stdout. Nothing that a terminal would act on gets there, wherever the text came from. */
export function print(text: string): void {
  process.stdout.write(`${visible(text)}\n`);
}

/** For stderr. */
export function printError(text: string): void {
  process.stderr.write(`${visible(text)}\n`);
}
