import { existsSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { OptionNames } from '../bad-option.js';
import { errnoOf } from '../errors.js';
import { native, NativeError } from '../native.js';
import { Child } from '../process.js';
import { CriuError } from './errors/criu-error.js';
import { SharedDirectory } from './process/shared-directory.js';
import { readLastErrors } from './errors/log-line.js';
import { requireMs } from './rpc/milliseconds.js';
import { boolean, filled, object, onlyKnown, port, string } from './rpc/option-values.js';
import type { CriuOptions } from './rpc/options.js';
import { isShortage } from './errors/resource-shortage.js';
import { endOrphans } from './process/swrk.js';

/** `tls` and its like encrypt the connection to `pageServer`, and have to suit what is said there. */
export interface LazyPagesOptions extends Pick<
  CriuOptions,
  'tls' | 'tlsCacert' | 'tlsCacrl' | 'tlsCert' | 'tlsKey' | 'tlsNoCnVerify'
> {
  criuPath: string;
  /** The images, with their memory unless a page server has it. */
  imagesDir: string;
  /** Where its socket and its log are; the restore must have the same `workDir`. */
  workDir: string;
  /** The log's name inside `workDir`. Default "lazy-pages.log". */
  logFile?: string;
  /** Memory comes from there: a dump with `lazyPages` and `pageServer` that waits for us. */
  pageServer?: { address: string; port: number };
  /** More arguments of `criu lazy-pages`. */
  args?: readonly string[];
  /** How long it may take until it listens, in milliseconds. Default 10000. */
  timeoutMs?: number;
}

const OPTIONS: OptionNames<LazyPagesOptions> = {
  criuPath: true,
  imagesDir: true,
  workDir: true,
  logFile: true,
  pageServer: true,
  args: true,
  timeoutMs: true,
  tls: true,
  tlsCacert: true,
  tlsCacrl: true,
  tlsCert: true,
  tlsKey: true,
  tlsNoCnVerify: true,
};

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
    void child.ended.then(({ exitSignal }) => {
      if (exitSignal !== undefined) endOrphans(child.pid);
    });
  }

  /**
   * Resolves when it waits for a restore. When it rejects there is no daemon, or it has been killed and reaped.
   * @throws CriuError CRIU_NOT_FOUND when the program cannot be started, CRIU_IO when no program can or it cannot be
   * heard,
   *   with the system's error as cause; CRIU_DIED, CRIU_TIMEOUT, BAD_OPTION; NativeError
   */
  static async start(options: LazyPagesOptions): Promise<LazyPages> {
    onlyKnown(options, OPTIONS);
    const { criuPath, workDir, logFile = 'lazy-pages.log', timeoutMs = 10_000 } = options;
    requireMs('timeoutMs', timeoutMs);
    filled('criuPath', criuPath);
    for (const option of ['imagesDir', 'workDir'] as const)
      await (await SharedDirectory.open(option, options[option]))[Symbol.asyncDispose]();
    const { child, status } = startDaemon(criuPath, argumentsOf(options, logFile));
    const daemon = new LazyPages(child, join(workDir, logFile));
    try {
      await daemon.#ready(status, timeoutMs);
      return daemon;
    } finally {
      native().close(status);
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

  /** Resolves when it listens; when it does not, or nobody can tell, it is ended. */
  async #ready(status: number, timeoutMs: number): Promise<void> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.#child.kill('SIGKILL');
    }, timeoutMs);
    try {
      if ((await hears(status, this.#child.ended)) && !late) return;
      await this.#child.ended; // what has only closed the pipe has until the timer to end
    } catch (cause) {
      // No descriptor was left to watch it through (EMFILE).
      await this.close();
      throw await this.#failure('CRIU_IO', { cause });
    } finally {
      clearTimeout(timer);
    }
    throw await (late ? this.#failure('CRIU_TIMEOUT', { timeoutMs }) : this.#failure());
  }

  async #failure(
    code: 'CRIU_DIED' | 'CRIU_IO' | 'CRIU_TIMEOUT' = 'CRIU_DIED',
    facts: { timeoutMs?: number; cause?: unknown } = {},
  ): Promise<CriuError> {
    const ending = await this.#child.ended;
    const log = existsSync(this.#logPath)
      ? { logPath: this.#logPath, logErrors: await readLastErrors(this.#logPath) }
      : {};
    return new CriuError(code, { request: 'lazy-pages', ...ending, ...log, ...facts });
  }
}

/** Its options: criu/config.c, v4.2. */
function argumentsOf(
  {
    imagesDir,
    workDir,
    pageServer,
    tls,
    tlsCacert,
    tlsCacrl,
    tlsCert,
    tlsKey,
    tlsNoCnVerify,
    args = [],
  }: LazyPagesOptions,
  logFile: string,
): string[] {
  const { address, port: number } =
    pageServer === undefined ? {} : object('pageServer', pageServer, { address: filled, port });
  const path = (option: string, name: string, value: string | undefined): string[] =>
    value === undefined ? [] : [name, string(option, value)];
  const flag = (option: string, name: string, value: boolean | undefined): string[] =>
    value !== undefined && boolean(option, value) ? [name] : [];
  return [
    ...['lazy-pages', '-D', imagesDir, '-W', workDir, '-o', logFile, '--status-fd', String(STATUS_FD)],
    ...(address === undefined ? [] : ['--page-server', '--address', address, '--port', String(number)]),
    ...flag('tls', '--tls', tls),
    ...path('tlsCacert', '--tls-cacert', tlsCacert),
    ...path('tlsCacrl', '--tls-cacrl', tlsCacrl),
    ...path('tlsCert', '--tls-cert', tlsCert),
    ...path('tlsKey', '--tls-key', tlsKey),
    ...flag('tlsNoCnVerify', '--tls-no-cn-verify', tlsNoCnVerify),
    ...args,
  ];
}

/**
 * Where the daemon has the pipe that it writes a byte to when its socket is there: seen in criu/uffd.c, status_ready.
 */
const STATUS_FD = 3;

/** The daemon, and our end of that pipe. */
function startDaemon(criuPath: string, args: string[]): { child: Child; status: number } {
  let status: number | undefined;
  let theirs: number | undefined;
  try {
    [status, theirs] = native().pipe();
    return {
      child: Child.start({ path: criuPath, args, umask: 0o077, fds: [undefined, undefined, undefined, theirs] }),
      status,
    };
  } catch (cause) {
    if (status !== undefined) native().close(status);
    if (cause instanceof NativeError) throw cause;
    throw new CriuError(isShortage(cause) ? 'CRIU_IO' : 'CRIU_NOT_FOUND', { criuPath, cause });
  } finally {
    if (theirs !== undefined) native().close(theirs); // or the end of the daemon's would not be seen
  }
}

/**
 * Whether a byte comes out of the pipe before its end, or the daemon's: a child that it leaves may hold the pipe open.
 */
function hears(fd: number, ended: Promise<unknown>): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    const hear = (): void => {
      if (isOver) return; // and the descriptor somebody else's by now
      isOver = true;
      poll.close();
      try {
        resolve(readSync(fd, Buffer.alloc(1)) === 1);
      } catch (error) {
        if (errnoOf(error) === 'EAGAIN') resolve(false);
        else reject(error as Error);
      }
    };
    const poll = new (native().Poll)(fd, 'readable', hear);
    void ended.then(hear);
  });
}
