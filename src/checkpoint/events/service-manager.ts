/**
 * systemd's notification protocol: what a supervisor must know so that it neither gives up on nor kills a program that
 * is busy with a long checkpoint. Source: man 3 sd_notify, systemd 252.
 */
import { createRequire } from 'node:module';
import type { OptionNames } from '../../bad-option.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { refuseUnknown } from '../option-names.js';
import type { Phase, PhaseEvent } from './phases.js';

export interface ServiceManagerOptions {
  /** Where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are looked up. Default: process.env. */
  env?: NodeJS.ProcessEnv;
  /** How often the manager is asked for more time during a phase, in milliseconds. Default 5000. */
  extendEveryMs?: number;
}

const OPTIONS: OptionNames<ServiceManagerOptions> = { env: true, extendEveryMs: true };

/** What of the package unix-dgram is used. */
interface DatagramSocket {
  send(data: Buffer, callback: (error?: Error) => void): void;
  connect(path: string): void;
  on(event: 'error' | 'connect' | 'congestion', listener: (error: Error) => void): void;
  close(): void;
}

const EXTEND_EVERY_MS = 5000;
// Asked anew long before it is used up: a busy event loop must not cost the service its life.
const EXTENSION_FACTOR = 4;

const words: Record<Phase, string> = {
  resolve: 'finding the target',
  lock: 'locking the target',
  guardian: 'arming the guardian',
  adopt: 'moving the tree into a cgroup of its own',
  precopy: 'copying files while the target runs',
  'pre-dump': 'writing memory while the target runs',
  'start-criu': 'starting CRIU',
  freeze: 'freezing the target',
  callback: 'working while the target is frozen',
  dump: 'dumping memory',
  refresh: 'copying changed files',
  thaw: 'thawing the target',
  seal: 'sealing the archive',
  retry: 'waiting for an instant that CRIU can dump',
  verify: 'verifying the archive',
  'wait-pids': 'waiting for free process ids',
  extract: 'extracting the archive',
  record: 'recording the prepared directory',
  replace: 'exchanging files',
  'place-files': 'giving the copy files of its own',
  'check-files': 'checking open files',
  restore: 'restoring the processes',
  'lazy-pages': 'bringing memory while the target runs',
  settle: 'putting old files away',
};

/** A connection to the service manager; leaving its scope ends it. A message that does not arrive is never an error. */
export class ServiceManager implements Disposable {
  /** How often the manager wants to hear WATCHDOG=1, in milliseconds: half its limit. Undefined when it does not. */
  readonly watchdogEveryMs: number | undefined;
  readonly #socket: DatagramSocket;
  readonly #extendEveryMs: number;
  readonly #running: Phase[] = [];
  #extender: NodeJS.Timeout | undefined;
  #watchdog: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(socket: DatagramSocket, options: ServiceManagerOptions) {
    this.#socket = socket;
    this.#extendEveryMs = options.extendEveryMs ?? EXTEND_EVERY_MS;
    this.watchdogEveryMs = watchdogEveryMs(options.env ?? process.env);
  }

  /**
   * @returns undefined when there is no service manager: NOTIFY_SOCKET is not set
   * @throws CheckpointError BAD_OPTION; SERVICE_MANAGER_UNREACHABLE: unix-dgram is not installed, nobody listens, or
   * the socket's name is abstract (`@name`), which unix-dgram cannot say
   */
  static connect(options: ServiceManagerOptions = {}): ServiceManager | undefined {
    refuseUnknown(options, OPTIONS);
    const path = (options.env ?? process.env).NOTIFY_SOCKET;
    if (path === undefined || path === '') return undefined;
    try {
      if (!path.startsWith('/'))
        throw new Error(path.startsWith('@') ? 'abstract sockets are not supported' : 'not an absolute path');
      return new ServiceManager(connected(path), options);
    } catch (cause) {
      throw new CheckpointError('SERVICE_MANAGER_UNREACHABLE', { socket: path, cause });
    }
  }

  /** One line that `systemctl status` shows. */
  status(text: string): void {
    this.#send(`STATUS=${text.replace(/\s+/g, ' ')}`);
  }

  /** Asks for so much more time to start, run or stop, in milliseconds, counted from now. */
  extendTimeout(ms: number): void {
    this.#send(`EXTEND_TIMEOUT_USEC=${Math.round(ms * 1000)}`);
  }

  /** The program is alive. */
  watchdog(): void {
    this.#send('WATCHDOG=1');
  }

  /**
   * Tells the manager of a phase: made for `onProgress`. While any phase runs it is asked for more time again and
   * again; while the window is open (from the freeze's start to the thaw's end) its watchdog is fed.
   */
  follow({ operation, phase, at }: PhaseEvent): void {
    if (this.#closed || at === 'progress') return;
    if (at === 'start') {
      this.#running.push(phase);
      this.status(`${operation}: ${words[phase]}`);
    } else {
      this.#running.splice(this.#running.lastIndexOf(phase), 1);
    }
    if (phase === 'freeze' && at === 'start') this.#feed();
    if ((phase === 'thaw' && at !== 'start') || this.#running.length === 0) this.#stopFeeding();
    this.#extend();
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#running.length = 0;
    this.#stopFeeding();
    this.#extend();
    this.#socket.close();
  }

  #extend(): void {
    if (this.#running.length === 0) {
      clearInterval(this.#extender);
      this.#extender = undefined;
      return;
    }
    if (this.#extender !== undefined) return;
    const extend = (): void => this.extendTimeout(this.#extendEveryMs * EXTENSION_FACTOR);
    extend();
    this.#extender = setInterval(extend, this.#extendEveryMs).unref();
  }

  #feed(): void {
    this.watchdog();
    if (this.watchdogEveryMs !== undefined)
      this.#watchdog ??= setInterval(() => this.watchdog(), this.watchdogEveryMs).unref();
  }

  #stopFeeding(): void {
    clearInterval(this.#watchdog);
    this.#watchdog = undefined;
  }

  #send(text: string): void {
    if (this.#closed) return;
    // A full queue or a restarted manager: the next message may do better, and no checkpoint fails for it.
    this.#socket.send(Buffer.from(text), () => undefined);
  }
}

function connected(path: string): DatagramSocket {
  // Loaded here and not above: it is an optional dependency, and native.
  const { createSocket } = createRequire(import.meta.url)('unix-dgram') as {
    createSocket(type: 'unix_dgram'): DatagramSocket;
  };
  const socket = createSocket('unix_dgram');
  let failure: Error | undefined;
  socket.on('error', (error) => (failure = error));
  // Connecting is done when it returns; a queue that is full later is told by this event, and else as an error.
  socket.on('congestion', () => undefined);
  socket.connect(path);
  if (failure === undefined) return socket;
  socket.close();
  throw failure;
}

/** Source: man 3 sd_watchdog_enabled. */
function watchdogEveryMs(env: NodeJS.ProcessEnv): number | undefined {
  const usec = Number(env.WATCHDOG_USEC);
  if (!Number.isFinite(usec) || usec <= 0) return undefined;
  if (env.WATCHDOG_PID !== undefined && Number(env.WATCHDOG_PID) !== process.pid) return undefined;
  return usec / 2000;
}
