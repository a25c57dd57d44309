import { closeSync, fstatSync, openSync, read } from 'node:fs';
import { promisify } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';

const LOOK_MS = 50;
const CHUNK_BYTES = 1 << 16;
const readAt = promisify(read);

/** What is appended to a file, copied to a stream as it comes. */
export class FollowedFile {
  readonly #fd: number;
  readonly #to: NodeJS.WritableStream;
  readonly #buffer = Buffer.alloc(CHUNK_BYTES);
  readonly #stop = new AbortController();
  #at: number;
  #following: Promise<void> | undefined;

  /** @param from The first byte that is wanted. */
  constructor(path: string, from: number, to: NodeJS.WritableStream) {
    this.#fd = openSync(path, 'r');
    this.#at = from;
    this.#to = to;
  }

  start(): void {
    this.#following = this.#follow();
  }

  /** Nothing more will be appended: resolves when all of it has been copied. */
  async end(): Promise<void> {
    this.#stop.abort();
    await this.#following;
    await this.#copy();
    closeSync(this.#fd);
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#copy();
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async #copy(): Promise<void> {
    // Somebody has emptied it, as `copytruncate` of logrotate does.
    if (fstatSync(this.#fd).size < this.#at) this.#at = 0;
    for (;;) {
      const { bytesRead } = await readAt(this.#fd, this.#buffer, 0, CHUNK_BYTES, this.#at);
      if (bytesRead === 0) return;
      this.#at += bytesRead;
      const bytes = Buffer.from(this.#buffer.subarray(0, bytesRead));
      await new Promise<void>((resolve) => this.#to.write(bytes, () => resolve()));
    }
  }
}
