import { closeSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { native, NativeError } from '../native.js';
import { Child } from '../process.js';
import { CriuError } from './criu-error.js';
import { readLastErrors } from './log.js';

export interface LazyPagesOptions {
  criuPath: string;
  /** The images, with their memory unless a page server has it. */
  imagesDir: string;
  /** Where its socket and its log are; the restore must have the same `workDir`. */
  workDir: string;
  /** The log's name inside `workDir`. Default "lazy-pages.log". */
  logFile?: string;
  /** Memory comes from there: a dump with `lazyPages` and `pageServer` that waits for us. */
  pageServer?: { address: string; port: number };
  /** More arguments of `criu lazy-pages`, such as its TLS options. */
  args?: readonly string[];
  /** How long it may take until it listens, in milliseconds. Default 10000. */
  timeoutMs?: number;
}

/**
 * A `criu lazy-pages` daemon, which brings restored tasks their memory as they touch it, and the rest behind. It has no
 * RPC request: it is started as a program. It is of use from its start to its end, which comes when it has brought all.
 */
export class LazyPages implements AsyncDisposable {
  readonly #child: Child;
  readonly #logPath: string;
  #closed = false;

  private constructor(child: Child, logPath: string) {
    this.#child = child;
    this.#logPath = logPath;
  }

  /**
   * Resolves when it waits for a restore.
   * @throws CriuError CRIU_NOT_FOUND, CRIU_DIED, CRIU_TIMEOUT
   */
  static async start({ criuPath, imagesDir, workDir, logFile = 'lazy-pages.log', pageServer, args = [], timeoutMs = 10_000 }: LazyPagesOptions): Promise<LazyPages> {
    const from = pageServer === undefined ? [] : ['--page-server', '--address', pageServer.address, '--port', String(pageServer.port)];
    // It writes a byte to the descriptor of --status-fd when its socket is there: seen in criu/uffd.c, status_ready.
    const [status, theirStatus] = native().pipe();
    const arguments_ = ['lazy-pages', '-D', imagesDir, '-W', workDir, '-o', logFile, '--status-fd', '3', ...from, ...args];
    const startDaemon = (): Child => {
      try {
        return Child.start({ path: criuPath, args: arguments_, fds: [undefined, undefined, undefined, theirStatus] });
      } finally {
        closeSync(theirStatus); // or the end of the daemon's would not be seen
      }
    };
    try {
      const daemon = new LazyPages(startDaemon(), join(workDir, logFile));
      const timer = setTimeout(() => daemon.#child.kill('SIGKILL'), timeoutMs);
      try {
        if (!(await hears(status))) throw await daemon.#failure();
        return daemon;
      } finally {
        clearTimeout(timer);
      }
    } catch (cause) {
      if (cause instanceof CriuError || cause instanceof NativeError) throw cause;
      throw new CriuError('CRIU_NOT_FOUND', { criuPath, cause });
    } finally {
      closeSync(status);
    }
  }

  get pid(): number {
    return this.#child.pid;
  }

  /**
   * Resolves when all memory has been brought and the daemon has ended.
   * @throws CriuError CRIU_DIED when it ended before: tasks that touch memory that is missing hang or die then
   */
  async finished(): Promise<void> {
    const { exitCode } = await this.#child.ended;
    if (exitCode !== 0 || this.#closed) throw await this.#failure();
  }

  /** Kills it when it has not ended, and resolves when it has been reaped. Safe to call twice. */
  async close(): Promise<void> {
    if (this.#child.end === undefined) {
      this.#closed = true;
      this.#child.kill('SIGKILL');
    }
    await this.#child.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #failure(): Promise<CriuError> {
    const ending = await this.#child.ended;
    return new CriuError('CRIU_DIED', { request: 'lazy-pages', ...ending, logPath: this.#logPath, logErrors: await readLastErrors(this.#logPath) });
  }
}

/** Whether a byte comes out of the pipe before its end. */
function hears(fd: number): Promise<boolean> {
  return new Promise((resolve) => {
    const poll = new (native().Poll)(fd, 'readable', () => {
      poll.close();
      resolve(readSync(fd, Buffer.alloc(1)) === 1);
    });
  });
}
