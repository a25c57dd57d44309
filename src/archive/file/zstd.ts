import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { Duplex, type Readable, type Transform, type Writable } from 'node:stream';
import * as zlib from 'node:zlib';

// In node:zlib since Node.js 22.15, and not in the types of 20.
const { createZstdCompress, createZstdDecompress } = zlib as {
  createZstdCompress?: () => Transform;
  createZstdDecompress?: (options: { params: Record<number, number> }) => Transform;
};

/**
 * The window is the memory that a frame takes, and the frame chooses it: a file of a few kilobytes could ask for gigabytes. 64
 * MiB are what `zstd --ultra -21` takes; our own archives take 2 MiB.
 */
const MAX_WINDOW_LOG = 26;
/** Source: zstd.h, ZSTD_dParameter. */
const ZSTD_D_WINDOW_LOG_MAX = 100;

/** Whether anything here can do zstd: Node.js itself, or the program zstd. */
export function hasZstd(): boolean {
  return createZstdCompress !== undefined || spawnSync('zstd', ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** A stream that compresses, off the event loop. */
export function zstdCompressor(): Duplex {
  return createZstdCompress?.() ?? new Program('zstd', ['-q', '-c', '-T0', '-3']);
}

/** A stream that decompresses, off the event loop. It fails at a frame whose window is larger than 64 MiB. */
export function zstdDecompressor(): Duplex {
  return (
    createZstdDecompress?.({ params: { [ZSTD_D_WINDOW_LOG_MAX]: MAX_WINDOW_LOG } }) ??
    new Program('zstd', ['-q', '-d', '-c', `--memory=${2 ** (MAX_WINDOW_LOG - 20)}MiB`])
  );
}

/** That is why a decompressor failed. */
export function isWindowTooLarge({ code, message }: NodeJS.ErrnoException): boolean {
  return code === 'ZSTD_error_frameParameter_windowTooLarge' || message.includes(TOO_MUCH_MEMORY);
}

// Source: zstd's error_private.c, ERR_getErrorString.
const TOO_MUCH_MEMORY = 'Frame requires too much memory for decoding';

/**
 * A filter program as a stream. It ends only when the program has ended well: one that dies closes its output just
 * as one that is done, and half an archive must not pass for a whole one.
 */
class Program extends Duplex {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;

  constructor(command: string, args: readonly string[]) {
    super();
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    const { stdin, stdout, stderr } = this.#child;
    let said = '';
    stderr.on('data', (text) => (said = `${said}${String(text)}`.slice(0, 1000)));
    const ended = once(this.#child, 'close') as Promise<[number | null, string | null]>;
    stdout.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) stdout.pause();
    });
    // A program that ended early makes the next write fail; how it ended says more.
    stdin.on('error', () => undefined);
    ended.then(
      ([status, signal]) => {
        if (status === 0) this.push(null);
        else this.destroy(new Error(`${command} ended with ${signal ?? `status ${status}`}: ${said.trim()}`));
      },
      (error: Error) => this.destroy(error),
    );
  }

  override _read(): void {
    this.#child.stdout.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (this.#child.stdin.write(chunk)) done();
    else this.#child.stdin.once('drain', done);
  }

  override _final(done: () => void): void {
    this.#child.stdin.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#child.kill();
    done(error);
  }
}
