import { statSync } from 'node:fs';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { whenAborted } from '../../when-aborted.js';
import type { Connection } from '../process/criu-connection.js';
import { CriuError, errnoName, type SessionFacts } from '../errors/criu-error.js';
import { readLastErrors } from '../errors/log-line.js';
import {
  decodeMessage,
  encodeNotifyReply,
  present,
  type Message,
  type Notify,
  type RequestType,
  type Response,
} from '../rpc/messages.js';
import type { NotificationReply, OnNotify } from '../rpc/notification.js';
import type { Packet } from '../process/packet-socket.js';
import type { SwrkEnd } from '../process/criu-connection.js';

export interface Exchange {
  type: RequestType;
  /** The encoded request. */
  data: Uint8Array;
  onNotify?: OnNotify | undefined;
  /** Cancels, as does closing the session: CRIU undoes its work, and the exchange rejects with CRIU_ABORTED. */
  signal?: AbortSignal | undefined;
  /** The same after a time, with CRIU_TIMEOUT. Callbacks count. Default: no limit. */
  limit?: TimeLimit | undefined;
  /** For the error. */
  version?: string | undefined;
  /** Where CRIU logs this request, for the error. */
  logPath?: string | undefined;
}

/** Of a whole call, which may take several requests. */
export interface TimeLimit {
  /** What the caller gave. */
  timeoutMs: number;
  /** When it ends, by `performance.now()`. */
  until: number;
}

export interface SessionOptions {
  criuPath: string;
  /** How long CRIU may take to undo its work before it is killed. */
  graceMs: number;
}

const criuErrors = new WeakMap<object, CriuError>();

/**
 * What CRIU made of it when a notification callback threw `error`: mostly CRIU_REQUEST_FAILED; CRIU_WENT_ON when it
 * ignored the refusal and completed the request all the same.
 */
export function criuErrorOf(error: unknown): CriuError | undefined {
  return typeof error === 'object' && error !== null ? criuErrors.get(error) : undefined;
}

/**
 * One request and all that it entails: the notifications with their answers, and CRIU's response. A failed one (other
 * than CRIU's own "no" with a reason) closes the connection and resolves only when CRIU has been reaped.
 * A callback's error wins over what CRIU makes of the refusal; CRIU ignores one of `network-unlock`, `pre-resume` and
 * `post-resume` (criu/net.c, criu/cr-restore.c, v4.2) and completes the request.
 * @throws CriuError CRIU_REQUEST_FAILED, CRIU_DIED, CRIU_IO, CRIU_PROTOCOL, CRIU_TIMEOUT, CRIU_ABORTED; a callback's
 * own error
 */
export async function exchange(
  connection: Connection,
  options: SessionOptions,
  { type, data, onNotify, signal, limit, logPath, version }: Exchange,
): Promise<Response> {
  const facts: SessionFacts = { criuPath: options.criuPath, request: type, ...present({ logPath, version }) };
  const before = logStamp(logPath);
  const stop = stopper({ signal, limit, onNotify }, connection);
  const refused: Refusal[] = [];
  try {
    stop.signal?.throwIfAborted();
    await connection.send(data, [], stop);
    for (;;) {
      const packet = await connection.receive(stop);
      if (packet === undefined) throw died;
      const message = decode(packet, facts);
      if (message.type !== 'NOTIFY') {
        closeAll(packet.fds);
        const response = accept(message, type, facts);
        if (refused.length > 0)
          throw new CriuError('CRIU_WENT_ON', {
            ...facts,
            ...present({ restoredPid: response.restoredPid, script: refused[0]?.script }),
          });
        return response;
      }
      const reply = await answer(message, packet.fds, onNotify, stop.callbackSignal, refused);
      await connection.send(reply, [], stop);
    }
  } catch (error) {
    // The same object: a reason can be any, also an error like those that CRIU's answers make.
    const aborted = stop.signal?.aborted === true && error === stop.signal.reason;
    const failure = await explain(error, connection, options, facts, { before, aborted, limit });
    const [refusal] = refused;
    if (refusal === undefined || failure.code === 'CRIU_ABORTED' || failure.code === 'CRIU_TIMEOUT') throw failure;
    if (typeof refusal.error === 'object' && refusal.error !== null) criuErrors.set(refusal.error, failure);
    throw refusal.error;
  } finally {
    stop.dispose();
  }
}

/** A notification whose callback failed. */
interface Refusal {
  script: string;
  error: unknown;
}

/** Marks the connection's end in the middle of a request. */
const died = new Error('the connection ended');
/** Marks a time-out, as the reason of an aborted signal. */
const timedOut = new Error('timed out');

interface Stopper {
  /**
   * The caller's signal and the time limit as one. Undefined when nothing can stop the exchange, and no callback wants
   * to know.
   */
  signal: AbortSignal | undefined;
  /**
   * What a callback gets: also aborted when CRIU ends, for nobody waits for its answer then. What CRIU has sent is read
   * first all the same.
   */
  callbackSignal: AbortSignal | undefined;
  dispose(): void;
}

function stopper(
  { signal, limit, onNotify }: Pick<Exchange, 'signal' | 'limit' | 'onNotify'>,
  connection: Connection,
): Stopper {
  // Most requests have none of them; a signal and its listeners take a tenth of the time of a question and its answer.
  if (signal === undefined && limit === undefined && onNotify === undefined)
    return { signal, callbackSignal: undefined, dispose: () => undefined };
  const controller = new AbortController();
  const forCallbacks = new AbortController();
  const abort = (reason: unknown): void => {
    controller.abort(reason);
    forCallbacks.abort(reason);
  };
  const onAbort = (): void => abort(signal?.reason);
  const timer = limit === undefined ? undefined : setTimeout(() => abort(timedOut), limit.until - performance.now());
  const forget = whenAborted(signal, onAbort);
  let isOver = false;
  if (onNotify !== undefined) void connection.ended.then(() => !isOver && forCallbacks.abort(died));
  const dispose = (): void => {
    isOver = true;
    clearTimeout(timer);
    forget();
  };
  return { signal: controller.signal, callbackSignal: forCallbacks.signal, dispose };
}

function decode({ data, fds }: Packet, facts: SessionFacts): Message {
  try {
    return decodeMessage(data);
  } catch (cause) {
    closeAll(fds);
    throw new CriuError('CRIU_PROTOCOL', { ...facts, cause });
  }
}

/**
 * Runs the callback and gives the bytes that answer CRIU. A callback that fails is noted in `refused`, and CRIU told
 * no.
 */
async function answer(
  message: Notify,
  fds: number[],
  onNotify: OnNotify | undefined,
  signal: AbortSignal | undefined,
  refused: Refusal[],
): Promise<Uint8Array> {
  // CRIU sends a descriptor with this one only; a callback would not know that it has one to close.
  const isTerminal = message.script === 'orphan-pts-master';
  const fd = isTerminal ? fds[0] : undefined;
  closeAll(isTerminal ? fds.slice(1) : fds);
  if (onNotify === undefined || signal === undefined) {
    if (fd !== undefined) closeAll([fd]);
    return encodeNotifyReply(true);
  }
  if (signal.aborted && fd !== undefined) closeAll([fd]); // there will be no callback to take it
  const { script, pid } = message;
  try {
    const reply = await unlessStopped(
      async () => (await onNotify({ script, ...present({ pid, fd }) }, signal)) ?? undefined,
      signal,
    );
    return encodeNotifyReply(true, reply?.external);
  } catch (error) {
    signal.throwIfAborted();
    refused.push({ script, error });
    return encodeNotifyReply(false);
  }
}

/** The callback's result, or the signal's reason as soon as it is aborted: a callback that hangs must not hold CRIU. */
function unlessStopped(
  call: () => Promise<NotificationReply | undefined>,
  signal: AbortSignal,
): Promise<NotificationReply | undefined> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    call()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', onAbort));
  });
}

function accept(response: Response, asked: RequestType, facts: SessionFacts): Response {
  if (response.type !== asked && !sameAnswer(response.type, asked)) {
    throw response.success || response.type !== 'EMPTY'
      ? new CriuError('CRIU_PROTOCOL', { ...facts, reason: `an answer to ${response.type}` })
      : new Refused(response);
  }
  // CRIU reports a message with success too (a limit it could not raise): the flag alone decides.
  if (!response.success) throw new Refused(response);
  return response;
}

/** CRIU's own "no", before its reasons have been collected. */
class Refused extends Error {
  constructor(readonly response: Response) {
    super('CRIU refused');
  }
}

/** CRIU answers PAGE_SERVER_CHLD as PAGE_SERVER. */
function sameAnswer(answered: string, asked: string): boolean {
  return asked === 'PAGE_SERVER_CHLD' && answered === 'PAGE_SERVER';
}

interface Circumstances {
  /** The log as it was before the request. */
  before: string | undefined;
  /** The caller's signal or the time limit ended it. */
  aborted: boolean;
  limit: TimeLimit | undefined;
}

/** The failure as a CriuError, with the connection closed and CRIU reaped unless it answered in due form. */
async function explain(
  error: unknown,
  connection: Connection,
  options: SessionOptions,
  facts: SessionFacts,
  { before, aborted, limit }: Circumstances,
): Promise<CriuError> {
  if (!aborted && error instanceof Refused)
    return await refusal(error.response, connection, options, await withLog(facts, before));
  if (!aborted && error instanceof CriuError && error.code === 'CRIU_WENT_ON') return error;
  const byClose = connection.disconnected;
  const end = await endOf(connection, options);
  const all: SessionFacts = { ...(await withLog(facts, before)), ...end };
  if (aborted && error === timedOut && limit !== undefined)
    return new CriuError('CRIU_TIMEOUT', { ...all, timeoutMs: limit.timeoutMs });
  if (aborted || byClose) return new CriuError('CRIU_ABORTED', { ...all, cause: error });
  if (error instanceof CriuError) return error;
  if (error === died || peerIsGone(error))
    return new CriuError('CRIU_DIED', { ...all, ...(error === died ? {} : { cause: error }) });
  return new CriuError('CRIU_IO', { ...all, cause: error });
}

/**
 * In its answer and its log it says why, mostly. Where not, its stderr is worth a wait for its end: nothing holds the
 * tasks any more.
 */
async function refusal(
  { crErrno, crErrmsg }: Response,
  connection: Connection,
  options: SessionOptions,
  facts: SessionFacts,
): Promise<CriuError> {
  const crErrnoName = crErrno === undefined ? undefined : errnoName(crErrno);
  const end = crErrmsg === undefined && (facts.logErrors ?? []).length === 0 ? await endOf(connection, options) : {};
  return new CriuError('CRIU_REQUEST_FAILED', {
    ...facts,
    ...present({ crErrno, crErrnoName, crErrmsg: crErrmsg?.trimEnd(), stderr: end.stderr }),
  });
}

/** Ends it at once, since it may hold tasks, and waits until it has been reaped. */
async function endOf(connection: Connection, { graceMs }: SessionOptions): Promise<Partial<SwrkEnd>> {
  connection.disconnect();
  const { stderr, ...ending } = await connection.close({ graceMs });
  return stderr === '' ? ending : { ...ending, stderr };
}

function peerIsGone(error: unknown): boolean {
  return ['EPIPE', 'ECONNRESET'].includes(errnoOf(error) ?? '');
}

/**
 * With the last errors of CRIU's log. One that it has not touched in this request, if there is one at all, tells of
 * another: it is not named.
 */
async function withLog({ logPath, ...facts }: SessionFacts, before: string | undefined): Promise<SessionFacts> {
  return logPath === undefined || logStamp(logPath) === before
    ? facts
    : { ...facts, logPath, logErrors: await readLastErrors(logPath) };
}

/** Changes when the file is made anew or written to. Whether it can be is for CRIU to say. */
function logStamp(path: string | undefined): string | undefined {
  try {
    const stat = path === undefined ? undefined : statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? undefined : `${stat.ino} ${stat.size} ${stat.mtimeNs}`;
  } catch {
    return undefined;
  }
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) native().close(fd);
}
