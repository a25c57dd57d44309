import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { CriuError } from './criu-error.js';
import { readLastErrors } from './log.js';
import { present } from './messages.js';

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
  readonly #child: ChildProcess;
  readonly #logPath: string;
  readonly #exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  #closed = false;

  private constructor(child: ChildProcess, logPath: string) {
    this.#child = child;
    this.#logPath = logPath;
    this.#exited = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
  }

  /**
   * Resolves when it waits for a restore.
   * @throws CriuError CRIU_NOT_FOUND, CRIU_DIED, CRIU_TIMEOUT
   */
  static async start({ criuPath, imagesDir, workDir, logFile = 'lazy-pages.log', pageServer, args = [], timeoutMs = 10_000 }: LazyPagesOptions): Promise<LazyPages> {
    const from = pageServer === undefined ? [] : ['--page-server', '--address', pageServer.address, '--port', String(pageServer.port)];
    // It writes a byte to the descriptor of --status-fd when its socket is there: seen in criu/uffd.c, status_ready.
    const child = spawn(criuPath, ['lazy-pages', '-D', imagesDir, '-W', workDir, '-o', logFile, '--status-fd', '3', ...from, ...args], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
      detached: true,
    });
    if (child.pid === undefined) {
      const [cause] = (await once(child, 'error')) as [unknown];
      throw new CriuError('CRIU_NOT_FOUND', { criuPath, cause });
    }
    const daemon = new LazyPages(child, join(workDir, logFile));
    const status = child.stdio[3] as Readable;
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    try {
      const ready = await Promise.race([once(status, 'data').then(() => true), daemon.#exited.then(() => false)]);
      if (!ready) throw await daemon.#failure();
      return daemon;
    } finally {
      clearTimeout(timer);
      status.destroy();
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /**
   * Resolves when all memory has been brought and the daemon has ended.
   * @throws CriuError CRIU_DIED when it ended before: tasks that touch memory that is missing hang or die then
   */
  async finished(): Promise<void> {
    const { code } = await this.#exited;
    if (code !== 0 || this.#closed) throw await this.#failure();
  }

  /** Kills it when it has not ended, and resolves when it has been reaped. Safe to call twice. */
  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#closed = true;
      this.#child.kill('SIGKILL');
    }
    await this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #failure(): Promise<CriuError> {
    const { code, signal } = await this.#exited;
    const ending = present({ exitCode: code, exitSignal: signal });
    return new CriuError('CRIU_DIED', { request: 'lazy-pages', ...ending, logPath: this.#logPath, logErrors: await readLastErrors(this.#logPath) });
  }
}
