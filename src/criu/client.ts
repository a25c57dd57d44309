import { closeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CriuError } from './criu-error.js';
import { SharedDirectory } from './directory.js';
import { present, type Request, type RequestType, type Response, type WireFeatures } from './messages.js';
import { identify, killTree, type RestoredRoot } from './half-restored.js';
import type { CriuNotification, OnNotify } from './notification.js';
import { encodeOptions, requireOptions } from './option-fields.js';
import type { CriuDumpRequest, CriuRequestOptions } from './options.js';
import { exchange, type Exchange, type SessionOptions } from './session.js';
import { Swrk, type SwrkEnd, type SwrkOptions } from './swrk.js';
import type { CriuVersion } from './version.js';

export interface CriuClientOptions extends SwrkOptions {
  /**
   * How long CRIU may take to undo its work, once a session is closed in the middle of a request, before it is killed.
   * In milliseconds, default 10000.
   */
  graceMs?: number;
}

export interface CallOptions {
  /** Cancels: CRIU undoes its work and lets the tasks go; then the call rejects with CRIU_ABORTED. */
  signal?: AbortSignal;
  /** The same after so many milliseconds, with CRIU_TIMEOUT. Default: no limit. */
  timeoutMs?: number;
}

export interface WorkOptions extends CallOptions {
  onNotify?: OnNotify;
}

export interface RestoreResult {
  /** The restored root task's pid. It is CRIU's child, and init's (or a subreaper's) once CRIU has ended. */
  pid: number;
}

export interface CriuFeatures {
  /** Memory changes can be tracked: `trackMem`, iterative pre-dumps. */
  memTrack?: boolean;
  /** Memory can be brought on demand: `lazyPages`. */
  lazyPages?: boolean;
  /** Pidfds can be kept between pre-dumps: `pidfdStoreSk`. */
  pidfdStore?: boolean;
}

/**
 * A session with one `criu swrk` process. `version()` and `featureCheck()` can be repeated; `check()`, `dump()` and
 * `restore()` end the session, as does every failure: CRIU keeps no worker after them. One request at a time.
 * Close it (or use `await using`): only then has CRIU's process been reaped.
 */
export class CriuClient implements AsyncDisposable {
  readonly #swrk: Swrk;
  readonly #session: SessionOptions;
  readonly #fds: readonly number[];
  #state: 'idle' | 'busy' | 'ended' = 'idle';
  #version: CriuVersion | undefined;

  private constructor(swrk: Swrk, { criuPath, graceMs = 10_000, fds = [] }: CriuClientOptions) {
    this.#swrk = swrk;
    this.#session = { criuPath, graceMs };
    this.#fds = [...fds];
  }

  /** @throws CriuError CRIU_NOT_FOUND */
  static async start(options: CriuClientOptions): Promise<CriuClient> {
    return new CriuClient(await Swrk.start(options), options);
  }

  /** CRIU's process, for whoever wants to place it in a cgroup. */
  get pid(): number {
    return this.#swrk.pid;
  }

  /** How CRIU's process ended; resolves when it has been reaped, never rejects. */
  get ended(): Promise<SwrkEnd> {
    return this.#swrk.ended;
  }

  async version(call: CallOptions = {}): Promise<CriuVersion> {
    const { version } = await this.#ask({ type: 'VERSION', keepOpen: true }, call);
    if (version == null) throw await this.#protocolError('VERSION', 'no version in the answer');
    const { majorNumber: major, minorNumber: minor, gitid, name } = version;
    const sublevel = version.sublevel ?? 0;
    this.#version = {
      major,
      minor,
      sublevel,
      text: `${major}.${minor}${sublevel === 0 ? '' : `.${sublevel}`}`,
      versionNumber: major * 10000 + minor * 100 + sublevel,
      ...present({ gitId: gitid, name }),
    };
    return this.#version;
  }

  /**
   * Which of the features asked for (true) kernel and CRIU have: CRIU's answer, not the question. Those not asked for
   * are left out.
   */
  async featureCheck(asked: CriuFeatures, call: CallOptions = {}): Promise<CriuFeatures> {
    const { features } = await this.#ask({ type: 'FEATURE_CHECK', features: present(asked) as WireFeatures, keepOpen: true }, call);
    if (features == null) throw await this.#protocolError('FEATURE_CHECK', 'no features in the answer');
    const names = (Object.keys(asked) as (keyof CriuFeatures)[]).filter((name) => asked[name] === true);
    return Object.fromEntries(names.map((name) => [name, features[name] ?? false]));
  }

  /**
   * Resolves when CRIU finds all it needs on this kernel.
   * @throws CriuError CRIU_REQUEST_FAILED with what is missing, as lines of CRIU's log
   */
  async check(call: CallOptions = {}): Promise<void> {
    // CRIU before 4.2 wants an images' directory and always writes its log there.
    const imagesDir = await mkdtemp(join(tmpdir(), 'stillframe-criu-check-'));
    try {
      this.#begin('CHECK');
      await this.#work('CHECK', { imagesDir, logFile: 'check.log' }, call);
    } finally {
      await rm(imagesDir, { recursive: true, force: true });
    }
  }

  /**
   * Dumps the tree of `pid` into `imagesDir`. Resolves when CRIU has let the tasks go (or killed them); CRIU's process
   * ends a moment later, see `close()`.
   * @throws CriuError CRIU_REQUEST_FAILED, CRIU_DIED, CRIU_ABORTED, CRIU_TIMEOUT, CRIU_OPTION_UNSUPPORTED,
   *   CRIU_BAD_OPTION; the error of `onNotify`. The tasks run on then, unless CRIU was killed while it held them.
   */
  async dump(options: CriuDumpRequest, call: WorkOptions = {}): Promise<void> {
    const { pid, ...rest } = options;
    // Without a pid CRIU dumps whoever asks: this process.
    if (!Number.isInteger(pid) || pid <= 0) throw new CriuError('CRIU_BAD_OPTION', { option: 'pid', reason: `${String(pid)} is not a pid` });
    if (pid === process.pid) throw new CriuError('CRIU_BAD_OPTION', { option: 'pid', reason: 'a process cannot dump itself here: CRIU would stop the one that has to answer it' });
    await this.#readyFor('DUMP', rest, call);
    await this.#work('DUMP', rest, call, pid);
  }

  /**
   * Restores the tree in `imagesDir`. Its pids must be free.
   * @throws as `dump()`; what was restored so far has been killed then, whether or not CRIU lived to do it
   */
  async restore(options: CriuRequestOptions, call: WorkOptions = {}): Promise<RestoreResult> {
    await this.#readyFor('RESTORE', options, call);
    let root: RestoredRoot | undefined;
    // Asked for in any case: only the notifications tell the pid of what a failed restore may leave behind.
    const onNotify: OnNotify = (notification, signal) => {
      if (notification.pid !== undefined) root = identify(notification.pid);
      return call.onNotify?.(notification, signal) ?? discard(notification, call);
    };
    try {
      const { restoredPid } = await this.#work('RESTORE', options, { ...call, onNotify });
      if (restoredPid === undefined) throw await this.#protocolError('RESTORE', 'no pid in the answer');
      return { pid: restoredPid };
    } catch (error) {
      if (root !== undefined) killTree(root);
      throw error;
    }
  }

  /** Ends the session; resolves when CRIU's process has been reaped. Safe to call twice. Never rejects. */
  async close(): Promise<void> {
    this.#state = 'ended';
    await this.#swrk.close(this.#session);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #begin(request: RequestType): void {
    if (this.#state !== 'idle') throw new CriuError(this.#state === 'busy' ? 'CRIU_BUSY' : 'CRIU_SESSION_ENDED', { request, criuPath: this.#session.criuPath });
    this.#state = 'busy';
  }

  /** A request after which the session goes on. */
  async #ask(request: Request, { signal, timeoutMs }: CallOptions): Promise<Response> {
    this.#begin(request.type);
    const response = await this.#exchange({ request, signal, timeoutMs });
    this.#state = 'idle';
    return response;
  }

  /** Asks for the version, if that is not known yet, and holds the options against it: a round trip before the work. */
  async #readyFor(request: RequestType, options: Partial<CriuRequestOptions>, { signal, timeoutMs }: CallOptions): Promise<void> {
    const version = this.#version ?? (await this.version({ ...present({ signal, timeoutMs }) }));
    requireOptions(options, version);
    this.#begin(request);
  }

  /** A request on images, after which the session is over. The caller has begun it. */
  async #work(type: RequestType, options: CriuRequestOptions, { onNotify, signal, timeoutMs }: WorkOptions, pid?: number): Promise<Response> {
    try {
      await using imagesDir = await SharedDirectory.open('imagesDir', options.imagesDir);
      await using workDir = options.workDir === undefined ? undefined : await SharedDirectory.open('workDir', options.workDir);
      const context = { imagesDirFd: imagesDir.fd, workDirFd: workDir?.fd, inherited: (fd: number) => Swrk.inheritedFd(this.#fds, fd) };
      const opts = { ...encodeOptions(options, context), ...(pid === undefined ? {} : { pid }), ...(onNotify === undefined ? {} : { notifyScripts: true }) };
      const logPath = options.logToStderr === true && options.logFile === undefined ? undefined : join((workDir ?? imagesDir).path, options.logFile ?? 'criu.log');
      return await this.#exchange({ request: { type, opts }, onNotify, signal, timeoutMs, logPath });
    } finally {
      this.#state = 'ended';
      this.#swrk.disconnect();
    }
  }

  async #exchange(what: Exchange): Promise<Response> {
    try {
      return await exchange(this.#swrk, this.#session, what);
    } catch (error) {
      this.#state = 'ended';
      this.#swrk.disconnect();
      throw error;
    }
  }

  async #protocolError(request: RequestType, reason: string): Promise<CriuError> {
    await this.close();
    return new CriuError('CRIU_PROTOCOL', { criuPath: this.#session.criuPath, request, reason });
  }
}

/** A descriptor that came with a notification belongs to the callback; without one, to nobody. */
function discard({ fd }: CriuNotification, { onNotify }: WorkOptions): void {
  if (onNotify === undefined && fd !== undefined) closeSync(fd);
}
