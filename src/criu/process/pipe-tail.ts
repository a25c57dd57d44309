import { readSync } from 'node:fs';
import { native, type PollHandle } from '../../native.js';

/** As much as a pipe holds. One for all: what was read is copied out of it at once. */
const chunk = Buffer.allocUnsafeSlow(64 * 1024);

/** The last bytes of what comes out of a pipe, which is emptied all the time: its writers never have to wait. */
export class PipeTail {
  readonly #fd: number;
  readonly #maxBytes: number;
  readonly #poll: PollHandle;
  #tail = Buffer.alloc(0);

  /** @param fd The read end, non-blocking; it is this object's from here on. */
  constructor(fd: number, maxBytes: number) {
    this.#fd = fd;
    this.#maxBytes = maxBytes;
    try {
      this.#poll = new (native().Poll)(fd, 'readable', () => {
        if (!this.#read()) this.#poll.close();
      });
    } catch (error) {
      native().close(fd); // no descriptor was left to watch it through (EMFILE)
      throw error;
    }
    // Nobody waits for its text alone.
    this.#poll.unref();
  }

  /** Takes what is left in the pipe, and closes it. To be called once. */
  finish(): string {
    this.#read();
    this.#poll.close();
    native().close(this.#fd);
    return this.#tail.toString();
  }

  /** False at the end; its text is a help in errors, so an error of the pipe is an end too. */
  #read(): boolean {
    try {
      const bytes = readSync(this.#fd, chunk, 0, chunk.length, null);
      if (bytes > 0) this.#tail = Buffer.concat([this.#tail, chunk.subarray(0, bytes)]).subarray(-this.#maxBytes);
      return bytes > 0;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'EAGAIN';
    }
  }
}
