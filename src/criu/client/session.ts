import { access, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import type { Connection } from '../process/criu-connection.js';
import { CriuError } from '../errors/criu-error.js';
import { SharedDirectory } from '../process/shared-directory.js';
import { withDumpProgress, type DumpProgress } from './dump-progress.js';
import { followLog, type LogLine } from './follow-log.js';
import { encodeRequest, present, type Request, type RequestType, type Response } from '../rpc/messages.js';
import type { OnNotify } from '../rpc/notification.js';
import { encodeOptions, requireOptions } from '../rpc/option-fields.js';
import { bad } from '../rpc/option-values.js';
import type { CriuRequestOptions } from '../rpc/options.js';
import { requireMs } from '../rpc/milliseconds.js';
import { exchange, type Exchange, type SessionOptions, type TimeLimit } from './exchange.js';
import type { SwrkEnd } from '../process/criu-connection.js';
import { Swrk } from '../process/swrk.js';
import { readVersion, type CriuVersion } from '../rpc/version.js';

export interface CallOptions {
  /** Cancels: CRIU undoes its work and lets the tasks go; then the call rejects with CRIU_ABORTED. */
  signal?: AbortSignal;
  /** The same after so many milliseconds, with CRIU_TIMEOUT. Default: no limit. */
  timeoutMs?: number;
}

export interface WorkOptions extends CallOptions {
  onNotify?: OnNotify;
  /**
   * Called with each line of CRIU's log, as it is written; all have been told when the request settles. It must not
   * throw. Needs a log file, so not with `logToStderr` alone.
   */
  onLog?: (line: LogLine) => void;
}

export interface DumpCallOptions extends WorkOptions {
  /**
   * Called ten times in a second with how much memory has been written: never for a dump that is shorter, for one whose
   * memory goes to a page server, or by a `criu service`. When it throws the request is cancelled, as by `signal`, and
   * rejects with that error.
   */
  onProgress?: (progress: DumpProgress) => void;
}

/** A call whose time runs already. */
export interface TimedCall extends CallOptions {
  limit?: TimeLimit;
}

export interface Work {
  type: RequestType;
  options: CriuRequestOptions;
  call: DumpCallOptions & TimedCall;
  pid?: number;
  /** The program of `execCmd` is the library's own: nobody waits for it. */
  holder?: boolean;
}

type State = 'idle' | 'busy' | 'pre-dumping' | 'ended';

/** What CRIU's worker does after each request: it waits for anything, for the rest of a pre-dump's loop, or ends. */
const after: Partial<Record<RequestType, 'idle' | 'pre-dumping'>> = {
  PAGE_SERVER: 'idle',
  PAGE_SERVER_CHLD: 'idle',
  CPUINFO_DUMP: 'idle',
  CPUINFO_CHECK: 'idle',
  PRE_DUMP: 'pre-dumping',
};

/**
 * The order of requests on one connection: one at a time, nothing after the last, and after a PRE_DUMP only another or
 * the DUMP. Every failure ends it, but for what is refused before CRIU has been asked.
 */
export class Conversation {
  readonly #connection: Connection;
  readonly #session: SessionOptions;
  readonly #fds: readonly number[];
  readonly #peerFds: ReadonlyMap<number, number>;
  #state: State = 'idle';
  #version: CriuVersion | undefined;
  #becameProgram = false;

  constructor(
    connection: Connection,
    session: SessionOptions,
    fds: readonly number[] = [],
    peerFds: ReadonlyMap<number, number> = new Map(),
  ) {
    this.#connection = connection;
    this.#session = session;
    this.#fds = [...fds];
    this.#peerFds = peerFds;
  }

  get pid(): number | undefined {
    return this.#connection.pid;
  }

  /** CRIU runs in other namespaces, and a pid is what it is there. */
  get isElsewhere(): boolean {
    return this.#peerFds.size > 0;
  }

  get ended(): Promise<SwrkEnd> {
    return this.#connection.ended;
  }

  /** A request without options. */
  async ask(request: Request, call: TimedCall): Promise<Response> {
    const { signal, limit } = timed(call);
    const data = encodeRequest(request);
    this.#begin(request.type);
    const response = await this.#exchange({ type: request.type, data, signal, limit });
    this.#goOn(request.keepOpen === true ? 'idle' : 'ended');
    return response;
  }

  async version(call: TimedCall): Promise<CriuVersion> {
    const { version } = await this.ask({ type: 'VERSION', keepOpen: true }, call);
    if (version == null) throw await this.protocolError('VERSION', 'no version in the answer');
    this.#version = readVersion(version);
    return this.#version;
  }

  /** A request on images, once the options have been held against CRIU's version: a round trip the first time. */
  async work({ options, call, ...work }: Work): Promise<Response> {
    const { signal, limit } = timed(call);
    const version = this.#version ?? (await this.version({ ...present({ signal, limit }) }));
    requireOptions(options, version);
    return await this.workUnchecked({ ...work, options, call: { ...call, ...present({ limit }) } });
  }

  /** The same for options that every CRIU has. */
  async workUnchecked({ type, options, call, pid, holder = false }: Work): Promise<Response> {
    const { onNotify, onLog, onProgress, signal, limit } = timed(call);
    const before = this.#begin(type);
    let isAsked = false;
    try {
      await using imagesDir = await SharedDirectory.open('imagesDir', options.imagesDir);
      await using workDir =
        options.workDir === undefined ? undefined : await SharedDirectory.open('workDir', options.workDir);
      await requireParentLink(imagesDir.path, options.parentImg);
      const context = {
        imagesDirFd: this.#peerFd(imagesDir),
        workDirFd: workDir === undefined ? undefined : this.#peerFd(workDir),
        inherited: (fd: number) => Swrk.inheritedFd(this.#fds, fd),
      };
      const opts = {
        ...encodeOptions(options, context),
        ...(pid === undefined ? {} : { pid }),
        ...(onNotify === undefined ? {} : { notifyScripts: true }),
      };
      const logPath =
        options.logToStderr === true && options.logFile === undefined
          ? undefined
          : join((workDir ?? imagesDir).path, options.logFile ?? 'criu.log');
      const keepOpen = after[type] === 'idle' ? { keepOpen: true } : {};
      const data = encodeRequest({ type, opts, ...keepOpen });
      if (options.pageServer?.fd !== undefined) makeBlocking('pageServer', options.pageServer.fd);
      isAsked = true;
      const work = (signal: AbortSignal | undefined): Promise<Response> =>
        withLog(logPath, onLog, () => this.#exchange({ type, data, onNotify, signal, limit, logPath }));
      // A service's pid could be another process here.
      const isWatched =
        pid !== undefined &&
        !this.isElsewhere &&
        onProgress !== undefined &&
        options.pageServer === undefined &&
        this.pid !== undefined;
      const response = isWatched
        ? await withDumpProgress({ pid, imagesDir: imagesDir.path, onProgress, signal }, work)
        : await work(signal);
      if (type === 'DUMP' && options.stream !== true) await requireImages(imagesDir);
      // CRIU's process is the caller's program now.
      if (type === 'RESTORE' && (options.execCmd ?? []).length > 0) {
        this.#becameProgram = true;
        this.#connection.becameProgram?.({ keepsLoop: !holder });
      }
      this.#goOn(after[type] ?? 'ended');
      return response;
    } catch (error) {
      this.#goOn(isAsked ? 'ended' : before);
      throw error;
    }
  }

  async protocolError(request: RequestType, reason: string): Promise<CriuError> {
    await this.close();
    return new CriuError('CRIU_PROTOCOL', { criuPath: this.#session.criuPath, request, reason });
  }

  async close(): Promise<void> {
    // An idle CRIU holds nothing, and can wait for its turn.
    if (this.#state !== 'idle') this.#connection.disconnect();
    this.#state = 'ended';
    if (!this.#becameProgram) await this.#connection.close(this.#session);
  }

  #peerFd({ fd }: SharedDirectory): number {
    return this.#peerFds.get(fd) ?? fd;
  }

  /** Gives the state before. */
  #begin(request: RequestType): Exclude<State, 'busy' | 'ended'> {
    const facts = { request, criuPath: this.#session.criuPath };
    if (this.#state === 'busy') throw new CriuError('CRIU_BUSY', facts);
    if (this.#state === 'ended') throw new CriuError('CRIU_SESSION_ENDED', facts);
    if (this.#state === 'pre-dumping' && request !== 'PRE_DUMP' && request !== 'DUMP')
      throw new CriuError('CRIU_PRE_DUMPING', facts);
    const before = this.#state;
    this.#state = 'busy';
    return before;
  }

  /** A session that was closed meanwhile stays so. */
  #goOn(state: Exclude<State, 'busy'>): void {
    if (state === 'ended') this.#end();
    else if (this.#state === 'busy') this.#state = state;
  }

  #end(): void {
    this.#state = 'ended';
    this.#connection.disconnect();
  }

  async #exchange(what: Exchange): Promise<Response> {
    try {
      return await exchange(this.#connection, this.#session, { ...what, version: this.#version?.text });
    } catch (error) {
      this.#end();
      throw error;
    }
  }
}

/**
 * With the time limit of the call as a whole: VERSION and FEATURE_CHECK, which come before some requests, count.
 * @throws CriuError BAD_OPTION for a time that is none
 */
export function timed<T extends TimedCall>(call: T): T {
  const { timeoutMs, limit } = call;
  if (timeoutMs === undefined || limit !== undefined) return call;
  requireMs('timeoutMs', timeoutMs);
  return { ...call, limit: { timeoutMs, until: performance.now() + timeoutMs } };
}

/**
 * CRIU makes a link to the parent images, takes one that is there already for it, and says nothing when that leads
 * elsewhere (criu/image.c, open_image_dir, v4.2): the restored memory would be another's.
 * @throws CriuError BAD_OPTION
 */
async function requireParentLink(imagesDir: string, parentImg: string | undefined): Promise<void> {
  if (parentImg === undefined) return;
  const before = await readlink(join(imagesDir, 'parent')).catch(() => undefined);
  if (before !== undefined && before !== parentImg)
    bad('parentImg', `${imagesDir} has the parent ${before} from an earlier request: use an empty directory`);
}

/**
 * No dump is without these two, and none that lacks one can be restored, whatever the answer said.
 * @throws CriuError CRIU_IMAGE
 */
async function requireImages({ fd, path }: SharedDirectory): Promise<void> {
  for (const image of ['inventory.img', 'pstree.img']) {
    try {
      await access(`/proc/self/fd/${fd}/${image}`);
    } catch (cause) {
      throw new CriuError('CRIU_IMAGE', { path: join(path, image), reason: 'CRIU says that it has dumped', cause });
    }
  }
}

/** Node.js's own sockets are not, and CRIU takes EAGAIN for a failure. */
function makeBlocking(option: string, fd: number): void {
  try {
    native().setBlocking(fd);
  } catch (error) {
    if (errnoOf(error) !== 'EBADF') throw error;
    bad(option, `${fd} is not open`, 'fd');
  }
}

/** Does the work, tells each line that the log gains meanwhile, and at the end what is left. */
async function withLog<T>(
  path: string | undefined,
  onLog: ((line: LogLine) => void) | undefined,
  work: () => Promise<T>,
): Promise<T> {
  if (path === undefined || onLog === undefined) return await work();
  const stop = new AbortController();
  const lines = await followLog(path, { signal: stop.signal });
  const told = (async () => {
    for await (const line of lines) onLog(line);
  })();
  told.catch(() => undefined); // awaited below
  try {
    return await work();
  } finally {
    stop.abort();
    await told;
  }
}
