import { constants } from 'node:os';
import { inspect } from 'node:util';
import type { OptionNames } from '../../bad-option.js';
import { native } from '../../native.js';
import { Child, type ProcessEnd } from '../../process.js';
import { CheckDir } from './check-dir.js';
import { nameOf, ServiceConnection, type ServiceOptions } from '../process/criu-connection.js';
import {
  Conversation,
  timed,
  type CallOptions,
  type DumpCallOptions,
  type TimedCall,
  type WorkOptions,
} from './session.js';
import { CriuError } from '../errors/criu-error.js';
import { requireMs } from '../rpc/milliseconds.js';
import { identify, type ProcessId } from '../../proc/identity.js';
import { hasUs, identifyChild, killTree } from '../process/owned-tree.js';
import { present, type RequestType, type WireFeatures } from '../rpc/messages.js';
import type { CriuNotification, OnNotify } from '../rpc/notification.js';
import type { CriuDumpRequest, CriuRequestOptions, CriuRestoreRequest } from '../rpc/options.js';
import { bad, filled, onlyKnown } from '../rpc/option-values.js';
import { pidWasTaken, siblingToBe } from './sibling.js';
import type { SwrkEnd } from '../process/criu-connection.js';
import { Swrk, type SwrkOptions } from '../process/swrk.js';
import { isOurTerminal, sessionHolder, terminalProblem } from '../process/terminal.js';
import type { CriuVersion } from '../rpc/version.js';

export interface CriuClientOptions extends SwrkOptions {
  /**
   * How long CRIU may take to undo its work, once a session is closed in the middle of a request, before it is killed.
   * In milliseconds, default 10000.
   */
  graceMs?: number;
}

const CLIENT_OPTIONS: OptionNames<CriuClientOptions> = {
  criuPath: true,
  enter: true,
  fds: true,
  terminal: true,
  umask: true,
  env: true,
  defaultConfig: true,
  maxMessageBytes: true,
  graceMs: true,
};
const SERVICE_OPTIONS: OptionNames<ServiceOptions> = {
  socketPath: true,
  fd: true,
  maxMessageBytes: true,
  peerFds: true,
};

export interface RestoreResult {
  /** The restored root task's pid. It is CRIU's child, and init's (or a subreaper's) once CRIU has ended. */
  pid: number;
  /**
   * With `rstSibling` it is our child: how it ended. It is reaped here; until then it keeps the event loop alive, as
   * any child of Node's.
   */
  ended?: Promise<ProcessEnd>;
}

export interface PageServerResult {
  /** Where it listens: what was asked for, or the one the kernel chose. */
  port: number;
}

export interface PageServerChildResult extends PageServerResult {
  /** A child of CRIU's process. */
  pid: number;
}

export interface CheckOptions extends CallOptions {
  /**
   * Whether CRIU finds what it needs without root, within the limits of CAP_CHECKPOINT_RESTORE. Default false.
   * Since 3.18.
   */
  unprivileged?: boolean;
}

/** How a process ended: one of the two. */
export interface ExitStatus {
  exitCode?: number;
  exitSignal?: NodeJS.Signals;
}

export interface CriuFeatures {
  /** Memory changes can be tracked: `trackMem`, iterative pre-dumps. */
  memTrack?: boolean;
  /** Memory can be brought on demand: `lazyPages`. */
  lazyPages?: boolean;
  /** Pidfds can be kept between pre-dumps: `pidfdStoreSk`. */
  pidfdStore?: boolean;
  /** Memory images can be compressed: `compress`. Since 4.3; an older CRIU cannot. */
  memCompression?: boolean;
}

/** A client of a `criu service`: the worker's process is not ours to know, and it can be given no descriptors. */
export type CriuServiceClient = Omit<CriuClient, 'pid' | 'ended'>;

/**
 * A session with one CRIU. `version()`, `featureCheck()`, `cpuinfoDump()`, `cpuinfoCheck()` and the page servers can be
 * repeated; after `preDump()` only another or `dump()` can come; `check()`, `dump()`, `restore()`, `singlePreDump()`
 * and `waitPid()` end the session, for CRIU keeps no worker after them; so does every failure, but for what is refused
 * before CRIU is asked (BAD_OPTION, CRIU_OPTION_UNSUPPORTED, CRIU_FEATURE_MISSING, CRIU_BUSY). One request at a
 * time. Close it (or use `await using`): only then has CRIU's process been reaped.
 */
export class CriuClient implements AsyncDisposable {
  readonly #conversation: Conversation;
  #memTrack: boolean | undefined;
  readonly #pageServers: ProcessId[] = [];
  /** What CRIU is to become, where it leads the session of a terminal. */
  readonly #holder: string[] | undefined;

  private constructor(conversation: Conversation, holder?: string[]) {
    this.#conversation = conversation;
    this.#holder = holder;
  }

  /**
   * Starts a `criu swrk` of our own.
   * @throws CriuError CRIU_NOT_FOUND, BAD_OPTION, for a `terminal` that is none, too; CRIU_IO when this process
   * can start none
   *   (no descriptors, no memory)
   */
  static async start(options: CriuClientOptions): Promise<CriuClient> {
    onlyKnown(options, CLIENT_OPTIONS);
    const { criuPath, enter, graceMs = 10_000, fds, terminal } = options;
    requireMs('graceMs', graceMs);
    filled('criuPath', criuPath);
    const problem = terminal === undefined ? undefined : terminalProblem(terminal);
    if (problem !== undefined) bad('terminal', problem);
    const holder = terminal === undefined || isOurTerminal(terminal) ? undefined : sessionHolder();
    const inherited = (fds ?? []).map((fd): [number, number] => [fd, Swrk.inheritedFd(fds ?? [], fd)!]);
    const peerFds = enter === undefined ? undefined : new Map(inherited);
    return new CriuClient(new Conversation(await Swrk.start(options), { criuPath, graceMs }, fds, peerFds), holder);
  }

  /**
   * Connects to a running `criu service`, or to whatever CRIU is at the other end of a socket. Everything works as with
   * `start()`, but for `inheritFd`, `rstSibling` and `execCmd`; a cancelled request is undone by the worker in its own
   * time: there is nobody here to wait for it.
   * @throws CriuError CRIU_NOT_FOUND, BAD_OPTION
   */
  static async connect(options: ServiceOptions): Promise<CriuServiceClient> {
    onlyKnown(options, SERVICE_OPTIONS);
    const session = { criuPath: nameOf(options), graceMs: 0 };
    return new CriuClient(new Conversation(ServiceConnection.open(options), session, [], options.peerFds));
  }

  /** CRIU's process, for whoever wants to place it in a cgroup. */
  get pid(): number {
    // Only a `CriuServiceClient`, whose type does not have it, has none.
    return this.#conversation.pid as number;
  }

  /** How CRIU's process ended; resolves when it has been reaped, never rejects. */
  get ended(): Promise<SwrkEnd> {
    return this.#conversation.ended;
  }

  version(call: CallOptions = {}): Promise<CriuVersion> {
    return this.#conversation.version(call);
  }

  /**
   * Which of the features asked for (true) kernel and CRIU have: CRIU's answer, not the question. Those not asked for
   * are left out.
   */
  async featureCheck(asked: CriuFeatures, call: CallOptions = {}): Promise<CriuFeatures> {
    const { features } = await this.#conversation.ask(
      { type: 'FEATURE_CHECK', features: present(asked) as WireFeatures, keepOpen: true },
      call,
    );
    if (features == null) throw await this.#conversation.protocolError('FEATURE_CHECK', 'no features in the answer');
    const names = (Object.keys(asked) as (keyof CriuFeatures)[]).filter((name) => asked[name] === true);
    return Object.fromEntries(names.map((name) => [name, features[name] ?? false]));
  }

  /**
   * Resolves when CRIU finds all it needs on this kernel.
   * @throws CriuError CRIU_REQUEST_FAILED with what is missing, as lines of CRIU's log
   */
  async check({ unprivileged, ...call }: CheckOptions = {}): Promise<void> {
    await using imagesDir = await CheckDir.make();
    try {
      await this.#conversation.workUnchecked({
        type: 'CHECK',
        options: { imagesDir: imagesDir.fd, logFile: 'check.log', ...present({ unprivileged }) },
        call,
      });
    } catch (error) {
      if (!(error instanceof CriuError)) throw error;
      // The log goes with its directory; its errors have been read.
      const { logPath: _, ...facts } = error.facts;
      // CRIU says so on its stdout only: criu/cr-check.c, cr_check, v4.2.
      const needsRoot =
        error.code === 'CRIU_REQUEST_FAILED' &&
        facts.problem === undefined &&
        unprivileged !== true &&
        process.geteuid?.() !== 0;
      throw new CriuError(error.code, {
        ...facts,
        ...(needsRoot ? { problem: 'needs-root' } : {}),
        cause: error.cause,
      });
    }
  }

  /**
   * Dumps the tree of `pid` into `imagesDir`. Resolves when CRIU has let the tasks go (or killed them); CRIU's process
   * ends a moment later, see `close()`.
   * @throws CriuError CRIU_REQUEST_FAILED, CRIU_DIED, CRIU_ABORTED, CRIU_TIMEOUT, CRIU_OPTION_UNSUPPORTED,
   *   BAD_OPTION; the error of `onNotify`. The tasks run on then, unless CRIU was killed while it held them.
   */
  async dump(options: CriuDumpRequest, call: DumpCallOptions = {}): Promise<void> {
    await this.#dump('DUMP', options, call);
  }

  /**
   * Writes the tree's memory into `imagesDir` and lets it run on, with its changes tracked: the next one, with
   * `parentImg` and `trackMem`, writes only what was changed since. The session then waits for another `preDump()` or
   * the `dump()` that makes images that can be restored. CRIU has no notifications for it: `onNotify` is never called.
   * @throws as `dump()`; CRIU_FEATURE_MISSING where the kernel does not track memory: nothing has been touched then
   */
  async preDump(options: CriuDumpRequest, call: DumpCallOptions = {}): Promise<void> {
    await this.#dump('PRE_DUMP', options, call);
  }

  /**
   * The same as one request of its own: what follows comes from another session. CRIU notices a pid that was reused
   * meanwhile only with `pidfdStoreSk`. Since 3.17.
   * @throws as `preDump()`
   */
  async singlePreDump(options: CriuDumpRequest, call: DumpCallOptions = {}): Promise<void> {
    await this.#dump('SINGLE_PRE_DUMP', options, call);
  }

  /**
   * Restores the tree in `imagesDir`. Its pids must be free.
   * @throws as `dump()`; what was restored so far has been killed then, whether or not CRIU lived to do it, and with
   * `rstSibling`
   *   the root has been reaped
   */
  async restore(options: CriuRestoreRequest, call: WorkOptions = {}): Promise<RestoreResult> {
    if (options.orphanPtsMaster === true && call.onNotify === undefined)
      bad('orphanPtsMaster', 'the terminal comes to onNotify, and without one nobody would hold it');
    let sibling: number | undefined;
    let root: ProcessId | undefined;
    const holder = options.shellJob === true && (options.execCmd ?? []).length === 0 ? this.#holder : undefined;
    if (holder !== undefined && options.rstSibling === true)
      bad(
        'rstSibling',
        'the terminal would be hung up at the end of CRIU, which goes on for a child of its own only; with a terminal of this process it would not',
      );
    // Asked for in any case: only the notifications tell the pid of what a failed restore may leave behind. A service's
    // number could mean another process here: it may live in another pid namespace.
    const isOurs = this.#conversation.pid !== undefined;
    const onNotify: OnNotify = async (notification, signal) => {
      if (notification.script === 'pre-restore' && options.rstSibling === true)
        sibling = await siblingToBe(options.imagesDir);
      if (isOurs && notification.pid !== undefined) root = identify(notification.pid);
      return call.onNotify?.(notification, signal) ?? discard(notification, call);
    };
    try {
      const { restoredPid } = await this.#conversation.work({
        type: 'RESTORE',
        options: holder === undefined ? options : { ...options, execCmd: holder },
        call: { ...call, onNotify },
        holder: holder !== undefined,
      });
      if (restoredPid === undefined) throw await this.#conversation.protocolError('RESTORE', 'no pid in the answer');
      return options.rstSibling === true
        ? { pid: restoredPid, ended: Child.adopt(restoredPid).ended }
        : { pid: restoredPid };
    } catch (error) {
      if (sibling !== undefined && !pidWasTaken(error)) root ??= identifyChild(sibling, process.pid);
      if (root !== undefined) killTree(root);
      // A zombie of ours would hold its pid, and no other restore of these images could succeed in this process.
      if (options.rstSibling === true && root !== undefined && identifyChild(root.pid, process.pid) !== undefined)
        await Child.adopt(root.pid).ended;
      throw error;
    }
  }

  /**
   * Starts a page server: it writes the memory that one dump, somewhere else, sends it (its option `pageServer`) into
   * `imagesDir`, and ends. A daemon: it outlives the session, and init reaps it. CRIU does not tell its pid: to end one
   * whose dump does not come, connect to it and close, or use `pageServerChild()`.
   * @throws as `dump()`
   */
  async pageServer(options: CriuRequestOptions, call: CallOptions = {}): Promise<PageServerResult> {
    const { port } = await this.#pageServer('PAGE_SERVER', options, call);
    return { port };
  }

  /**
   * The same as a child of CRIU's process: `waitPid()` on this session tells how it ended, and `close()` ends one that
   * still runs (not that of a `criu service`, which is not ours). Since 3.7.
   */
  async pageServerChild(options: CriuRequestOptions, call: CallOptions = {}): Promise<PageServerChildResult> {
    const server = await this.#pageServer('PAGE_SERVER_CHLD', options, call);
    // A child of our own CRIU: elsewhere the number could mean another process here.
    const parent = this.#conversation.pid;
    const own = parent === undefined ? undefined : identifyChild(server.pid, parent);
    if (own !== undefined) this.#pageServers.push(own);
    return server;
  }

  /**
   * Resolves when that child of CRIU's process has ended.
   * @throws CriuError CRIU_REQUEST_FAILED when it has no such child
   */
  async waitPid(pid: number, call: CallOptions = {}): Promise<ExitStatus> {
    requirePid(pid);
    const { status } = await this.#conversation.ask({ type: 'WAIT_PID', pid }, call);
    if (status === undefined) throw await this.#conversation.protocolError('WAIT_PID', 'no status in the answer');
    return statusOfWait(status);
  }

  /** Writes what this machine's processor can do into `imagesDir`, as `cpuinfo.img`. */
  async cpuinfoDump(options: CriuRequestOptions, call: CallOptions = {}): Promise<void> {
    await this.#conversation.work({ type: 'CPUINFO_DUMP', options, call });
  }

  /**
   * Resolves when this machine's processor can do all that the `cpuinfo.img` in `imagesDir` asks for.
   * @throws CriuError CRIU_REQUEST_FAILED when it cannot (`crErrnoName` ENOTSUP)
   */
  async cpuinfoCheck(options: CriuRequestOptions, call: CallOptions = {}): Promise<void> {
    await this.#conversation.work({ type: 'CPUINFO_CHECK', options, call });
  }

  /**
   * Ends the session and its page servers; resolves when CRIU's process has been reaped. After a restore with `execCmd`
   * that process is the caller's program: it goes on, and `ended` tells how it ends. Safe to call twice. Never rejects.
   */
  async close(): Promise<void> {
    // First: a CRIU that waits for it (`waitPid()`) hears nothing else.
    for (const server of this.#pageServers.splice(0)) killTree(server);
    await this.#conversation.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #dump(type: RequestType, { pid, ...options }: CriuDumpRequest, call: DumpCallOptions): Promise<void> {
    // Without a pid CRIU dumps whoever asks: this process.
    requirePid(pid);
    // A service's pid could be another process here, and so could one of another pid namespace.
    if (this.#conversation.pid !== undefined && !this.#conversation.isElsewhere && hasUs(pid))
      bad(
        'pid',
        'a process cannot dump itself, or a tree that it is in: CRIU would stop the one that has to answer it',
      );
    const limited = timed(call);
    if (type !== 'DUMP') await this.#requireMemTrack(type, limited);
    await this.#conversation.work({ type, options, call: limited, pid });
  }

  /**
   * Without it CRIU (4.3 too) ends in a BUG of its own when it already holds the tasks: criu/mem.c,
   * do_task_reset_dirty_track.
   */
  async #requireMemTrack(request: RequestType, { signal, limit }: TimedCall): Promise<void> {
    this.#memTrack ??= (await this.featureCheck({ memTrack: true }, present({ signal, limit }))).memTrack === true;
    if (!this.#memTrack)
      throw new CriuError('CRIU_FEATURE_MISSING', { request, feature: 'memTrack', problem: 'dirty-tracking' });
  }

  async #pageServer(type: RequestType, options: CriuRequestOptions, call: CallOptions): Promise<PageServerChildResult> {
    const { pageServer } = await this.#conversation.work({ type, options, call });
    const { pid, port } = pageServer ?? {};
    if (pid == null || port == null) throw await this.#conversation.protocolError(type, 'no page server in the answer');
    return { pid, port };
  }
}

function requirePid(pid: number): void {
  // The wire has 32 bits for it, and a larger number would be cut to another process's.
  if (!Number.isInteger(pid) || pid <= 0 || pid > 0x7fffffff) bad('pid', `${inspect(pid)} is not a pid`);
}

/** A wait status: wait(2), WIFEXITED and its like. */
export function statusOfWait(status: number): ExitStatus {
  const signal = status & 0x7f;
  if (signal === 0) return { exitCode: (status >> 8) & 0xff };
  const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
  return { exitSignal: name as NodeJS.Signals };
}

/** A descriptor that came with a notification belongs to the callback; without one, to nobody. */
function discard({ fd }: CriuNotification, { onNotify }: WorkOptions): void {
  if (onNotify === undefined && fd !== undefined) native().close(fd);
}
