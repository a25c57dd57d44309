import { spawn, spawnSync, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { Duplex, type Readable, type Transform, type Writable } from 'node:stream';
import * as zlib from 'node:zlib';

// In node:zlib since Node.js 22.15, and not in the types of 20.
const { createZstdCompress, createZstdDecompress } = zlib as {
  createZstdCompress?: () => Transform;
  createZstdDecompress?: () => Transform;
};

/** Whether anything here can do zstd: Node.js itself, or the program zstd. */
export function hasZstd(): boolean {
  return createZstdCompress !== undefined || spawnSync('zstd', ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** A stream that compresses, off the event loop. */
export function zstdCompressor(): Duplex {
  return createZstdCompress?.() ?? new Program('zstd', ['-q', '-c', '-T0', '-3']);
}

/** A stream that decompresses, off the event loop. */
export function zstdDecompressor(): Duplex {
  return createZstdDecompress?.() ?? new Program('zstd', ['-q', '-d', '-c']);
}

/**
 * A filter program as a stream. It ends only when the program has ended well: one that dies closes its output just
 * as one that is done, and half an archive must not pass for a whole one.
 */
class Program extends Duplex {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;

  constructor(command: string, args: readonly string[]) {
    super();
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    const { stdin, stdout } = this.#child;
    const ended = once(this.#child, 'close') as Promise<[number | null, string | null]>;
    stdout.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) stdout.pause();
    });
    // A program that ended early makes the next write fail; how it ended says more.
    stdin.on('error', () => undefined);
    ended.then(
      ([status, signal]) => {
        if (status === 0) this.push(null);
        else this.destroy(new Error(`${command} ended with ${signal ?? `status ${status}`}`));
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
