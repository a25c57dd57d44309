import { constants as osConstants } from 'node:os';
import { isMainThread } from 'node:worker_threads';
import { errnoOf } from './errors.js';
import { findCommand } from './find-command.js';
import { native, NativeError, type PollHandle } from './native.js';
import type { SpawnArguments } from './native-socket.js';

export interface ProcessOptions {
  /** The program; a name without a slash is looked for on PATH. */
  path: string;
  args?: readonly string[];
  /** Default: ours. */
  env?: NodeJS.ProcessEnv | undefined;
  /** Default: ours. */
  cwd?: string;
  /** Our descriptors, each at the index that is its number there; undefined is /dev/null. They stay ours. */
  fds?: readonly (number | undefined)[];
  /** It stays in our session, with a process group of its own. Default: a session of its own. */
  sharesSession?: boolean;
  /**
   * Descriptor 0 is a terminal: the child gets it opened anew (what is set on it, is not set on ours), and a session of
   * its own gets it as its controlling terminal, unless another session has it.
   */
  opensTerminal?: boolean;
  /** What is not allowed on the files that it makes, for example 0o077. Default: ours. */
  umask?: number | undefined;
}

/** How a process ended: one of the two; neither when somebody else in this process has reaped it. */
export interface ProcessEnd {
  exitCode?: number;
  exitSignal?: NodeJS.Signals;
}

/** How often a child is looked for that cannot be reaped yet. */
const REAP_MS = 10;
const signalNames = new Map(
  Object.entries(osConstants.signals).map(([name, number]) => [number, name as NodeJS.Signals]),
);

/**
 * A child process with a session (or process group) of its own. Node's `spawn` copies the address space of this
 * process: 2 ms that a guardian or a CRIU would come later, and the event loop with it. This copies nothing: see
 * native/addon/spawn.c.
 */
export class Child {
  readonly pid: number;
  /** Resolves when it has ended and has been reaped. Never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly #poll: PollHandle;
  #end: ProcessEnd | undefined;

  private constructor(pid: number, pidfd: number) {
    const { Poll, reap } = native();
    this.pid = pid;
    let resolve: (end: ProcessEnd) => void;
    this.ended = new Promise((settle) => (resolve = settle));
    const finish = (): void => {
      const end = endOf(() => reap(pidfd));
      // Killed while somebody traces it, as CRIU does in a dump: nobody can have it before the tracer has let go.
      if (end === undefined) return void setTimeout(finish, REAP_MS);
      this.#end = end;
      native().close(pidfd);
      resolve(end);
    };
    this.#poll = new Poll(pidfd, 'readable', () => {
      this.#poll.close();
      finish();
    });
  }

  /**
   * When it returns the program runs: 0.3 ms, nearly all of them the kernel's exec.
   * @throws the errno error of exec, with `path`; NativeError KERNEL_TOO_OLD
   */
  static start(options: ProcessOptions): Child {
    const program = argumentsOf(options);
    try {
      return Child.#watch(...native().spawn(...program));
    } catch (error) {
      throw explain(error, program[0]);
    }
  }

  /**
   * The same while a thread waits for the exec, and the event loop goes on. The descriptors may be closed as soon as it
   * has returned its promise.
   */
  static async startInThread(options: ProcessOptions): Promise<Child> {
    const program = argumentsOf(options);
    try {
      return Child.#watch(...(await native().spawnInThread(...program)));
    } catch (error) {
      throw explain(error, program[0]);
    }
  }

  /**
   * A child of this process that somebody else has made: CRIU, with `rstSibling`.
   * @throws the errno error of pidfd_open: ESRCH when there is no such process
   */
  static adopt(pid: number): Child {
    return Child.#watch(pid, native().pidfdOpen(pid));
  }

  static #watch(pid: number, pidfd: number): Child {
    try {
      return new Child(pid, pidfd);
    } catch (error) {
      // No descriptor was left to watch it through (EMFILE): it must not run on unseen, nor stay a zombie.
      process.kill(pid, 'SIGKILL');
      const timer = setInterval(() => {
        if (endOf(() => native().reap(pidfd)) === undefined) return;
        clearInterval(timer);
        native().close(pidfd);
      }, REAP_MS);
      throw error;
    }
  }

  /** How it ended; undefined while it runs. */
  get end(): ProcessEnd | undefined {
    return this.#end;
  }

  /** Nothing when it has ended: until it is reaped nobody else can have its pid. */
  kill(signal: NodeJS.Signals): void {
    if (this.#end === undefined) process.kill(this.pid, signal);
  }

  /** Whether the event loop goes on for it alone. It does, until told otherwise. */
  keepLoop(alive: boolean): void {
    if (alive) this.#poll.ref();
    else this.#poll.unref();
  }
}

function argumentsOf({
  path,
  args = [],
  env,
  cwd,
  fds = [],
  sharesSession = false,
  opensTerminal = false,
  umask,
}: ProcessOptions): SpawnArguments {
  // The name itself when it is not on PATH: what exec says of it is the error then.
  const program = path.includes('/') ? path : (findCommand(path, (env ?? process.env).PATH ?? '').path ?? path);
  return [
    program,
    [path, ...args],
    variables(env),
    fds.map((fd) => fd ?? -1),
    cwd,
    sharesSession,
    opensTerminal,
    umask,
  ];
}

function explain(error: unknown, path: string): unknown {
  if (errnoOf(error) === 'ENOSYS')
    return new NativeError('KERNEL_TOO_OLD', { syscall: 'pidfd_open', since: '5.4', cause: error });
  return error instanceof Error ? Object.assign(error, { path }) : error;
}

/** Undefined for ours as a whole: reading `process.env` takes 0.2 ms. A worker thread has a copy of its own. */
function variables(env: NodeJS.ProcessEnv | undefined): string[] | undefined {
  if (env === undefined && isMainThread) return undefined;
  return Object.entries(env ?? process.env).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${value}`],
  );
}

/** Undefined when there is no end to fetch yet. */
function endOf(reap: () => number | undefined): ProcessEnd | undefined {
  try {
    const status = reap();
    if (status === undefined) return undefined;
    return status >= 0 ? { exitCode: status } : { exitSignal: signalNames.get(-status) as NodeJS.Signals };
  } catch (error) {
    // By its number: libuv has no name for it.
    if ((error as NodeJS.ErrnoException).errno === -osConstants.errno.ECHILD) return {};
    throw error;
  }
}
