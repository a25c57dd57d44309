import { closeSync } from 'node:fs';
import type { Connection } from './connection.js';
import { CriuError, errnoName, type CriuErrorFacts } from './criu-error.js';
import { readLastErrors } from './log.js';
import { decodeMessage, encodeNotifyReply, encodeRequest, present, type Message, type Notify, type Request, type Response } from './messages.js';
import type { NotificationReply, OnNotify } from './notification.js';
import type { Packet } from './packet-socket.js';

export interface Exchange {
  request: Request;
  onNotify?: OnNotify | undefined;
  /** Cancels, as does closing the session: CRIU undoes its work, and the exchange rejects with CRIU_ABORTED. */
  signal?: AbortSignal | undefined;
  /** The same after so many milliseconds, with CRIU_TIMEOUT. Callbacks count. Default: no limit. */
  timeoutMs?: number | undefined;
  /** Where CRIU logs this request, for the error. */
  logPath?: string | undefined;
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
 * than CRIU's own "no") closes the connection and resolves only when CRIU has been reaped.
 * A callback's error wins over what CRIU makes of the refusal; CRIU ignores one of `network-unlock`, `pre-resume` and
 * `post-resume` (criu/net.c, criu/cr-restore.c, v4.2) and completes the request.
 * @throws CriuError CRIU_REQUEST_FAILED, CRIU_DIED, CRIU_PROTOCOL, CRIU_TIMEOUT, CRIU_ABORTED; a callback's own error
 */
export async function exchange(connection: Connection, options: SessionOptions, { request, onNotify, signal, timeoutMs, logPath }: Exchange): Promise<Response> {
  const facts: CriuErrorFacts = { criuPath: options.criuPath, request: request.type, ...present({ logPath }) };
  const stop = stopper({ signal, timeoutMs, onNotify });
  const refused: Refusal[] = [];
  try {
    stop.signal?.throwIfAborted();
    await connection.send(encodeRequest(request), [], stop);
    for (;;) {
      const packet = await connection.receive(stop);
      if (packet === undefined) throw died;
      const message = decode(packet, facts);
      if (message.type !== 'NOTIFY') {
        closeAll(packet.fds);
        const response = await accept(message, request, facts);
        if (refused.length > 0) throw new CriuError('CRIU_WENT_ON', { ...facts, ...present({ restoredPid: response.restoredPid, script: refused[0]?.script }) });
        return response;
      }
      const reply = await answer(message, packet.fds, onNotify, stop.signal, refused);
      await connection.send(reply, [], stop);
    }
  } catch (error) {
    const failure = await explain(error, connection, options, facts, { timeoutMs, stopped: stop.signal?.aborted === true || connection.disconnected });
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
  /** Undefined when nothing can stop the exchange, and no callback wants to know. */
  signal: AbortSignal | undefined;
  dispose(): void;
}

/** The caller's signal and the time limit as one. */
function stopper({ signal, timeoutMs, onNotify }: Pick<Exchange, 'signal' | 'timeoutMs' | 'onNotify'>): Stopper {
  // Most requests have none of them; a signal and its listeners take a tenth of the time of a question and its answer.
  if (signal === undefined && timeoutMs === undefined && onNotify === undefined) return { signal, dispose: () => undefined };
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal?.reason);
  const timer = timeoutMs === undefined ? undefined : setTimeout(() => controller.abort(timedOut), timeoutMs);
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  const dispose = (): void => {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  };
  return { signal: controller.signal, dispose };
}

function decode({ data, fds }: Packet, facts: CriuErrorFacts): Message {
  try {
    return decodeMessage(data);
  } catch (cause) {
    closeAll(fds);
    throw new CriuError('CRIU_PROTOCOL', { ...facts, cause });
  }
}

/** Runs the callback and gives the bytes that answer CRIU. A callback that fails is noted in `refused`, and CRIU told no. */
async function answer(message: Notify, fds: number[], onNotify: OnNotify | undefined, signal: AbortSignal | undefined, refused: Refusal[]): Promise<Uint8Array> {
  const [fd, ...more] = fds;
  closeAll(more);
  if (onNotify === undefined || signal === undefined) {
    if (fd !== undefined) closeAll([fd]);
    return encodeNotifyReply(true);
  }
  const { script, pid } = message;
  try {
    const reply = await unlessStopped(async () => (await onNotify({ script, ...present({ pid, fd }) }, signal)) ?? undefined, signal);
    return encodeNotifyReply(true, reply?.external);
  } catch (error) {
    signal.throwIfAborted();
    refused.push({ script, error });
    return encodeNotifyReply(false);
  }
}

/** The callback's result, or the signal's reason as soon as it is aborted: a callback that hangs must not hold CRIU. */
function unlessStopped(call: () => Promise<NotificationReply | undefined>, signal: AbortSignal): Promise<NotificationReply | undefined> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    call().then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

async function accept(response: Response, request: Request, facts: CriuErrorFacts): Promise<Response> {
  if (response.type !== request.type && !sameAnswer(response.type, request.type)) {
    throw response.success || response.type !== 'EMPTY' ? new CriuError('CRIU_PROTOCOL', { ...facts, reason: `an answer to ${response.type}` }) : await refusal(response, facts);
  }
  // CRIU reports a message with success too (a limit it could not raise): the flag alone decides.
  if (!response.success) throw await refusal(response, facts);
  return response;
}

/** CRIU answers PAGE_SERVER_CHLD as PAGE_SERVER. */
function sameAnswer(answered: string, asked: string): boolean {
  return asked === 'PAGE_SERVER_CHLD' && answered === 'PAGE_SERVER';
}

async function refusal({ crErrno, crErrmsg }: Response, facts: CriuErrorFacts): Promise<CriuError> {
  const crErrnoName = crErrno === undefined ? undefined : errnoName(crErrno);
  return new CriuError('CRIU_REQUEST_FAILED', { ...facts, ...present({ crErrno, crErrnoName, crErrmsg: crErrmsg?.trimEnd() }), ...(await logOf(facts)) });
}

async function logOf({ logPath }: CriuErrorFacts): Promise<{ logErrors?: string[] }> {
  return logPath === undefined ? {} : { logErrors: await readLastErrors(logPath) };
}

/** The failure as a CriuError, with the connection closed and CRIU reaped unless it answered in due form. */
async function explain(
  error: unknown,
  connection: Connection,
  { graceMs }: SessionOptions,
  facts: CriuErrorFacts,
  { timeoutMs, stopped }: { timeoutMs: number | undefined; stopped: boolean },
): Promise<CriuError> {
  if (error instanceof CriuError && (error.code === 'CRIU_REQUEST_FAILED' || error.code === 'CRIU_WENT_ON')) return error;
  connection.disconnect(); // at once: it may hold tasks
  const { stderr, ...ending } = await connection.close({ graceMs });
  const all: CriuErrorFacts = { ...facts, ...ending, ...(stderr === '' ? {} : { stderr }), ...(await logOf(facts)) };
  if (error instanceof CriuError) return error;
  if (stopped && error === timedOut) return new CriuError('CRIU_TIMEOUT', { ...all, ...present({ timeoutMs }) });
  if (stopped) return new CriuError('CRIU_ABORTED', { ...all, cause: error });
  return new CriuError('CRIU_DIED', { ...all, ...(error === died ? {} : { cause: error }) });
}

function closeAll(fds: readonly number[]): void {
  for (const fd of fds) closeSync(fd);
}
