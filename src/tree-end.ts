/** The end of a process that is not our child: of that the kernel tells whoever holds a pidfd, and of how, since 6.15. */
import { constants } from 'node:os';
import { native, type PollHandle } from './native.js';
import { identify, type ProcessId } from './proc/identity.js';
import { parseStat, readProc } from './proc/task.js';
import type { ProcessEnd } from './process.js';
import { whileWanted } from './while-wanted.js';

/** How a restored tree's root ended. */
export interface TreeEnd extends ProcessEnd {
  /**
   * As a shell has it: the exit code, or 128 and the signal's number. Undefined where the kernel could not tell: before
   * Linux 6.15 only the parent learns it, and whoever looks before the parent has.
   */
  status: number | undefined;
}

const signalNames = new Map(
  Object.entries(constants.signals).map(([name, number]) => [number, name as NodeJS.Signals]),
);

/** Watches a process until it ends. It does not keep the event loop alive, but for those who wait for the end. */
export class EndWatch {
  readonly #process: ProcessId | undefined;
  readonly #pidfd: number;
  readonly #poll: PollHandle;
  readonly #ended: Promise<TreeEnd>;
  #isOver = false;

  /** @throws errno errors of pidfd_open: ESRCH when there is no such process */
  constructor(pid: number) {
    this.#process = identify(pid);
    const { pidfdOpen, Poll } = native();
    this.#pidfd = pidfdOpen(pid);
    let end!: (end: TreeEnd) => void;
    this.#ended = new Promise((resolve) => (end = resolve));
    try {
      this.#poll = new Poll(this.#pidfd, 'readable', () => {
        const how = this.#readEnd();
        this.close();
        end(how);
      });
    } catch (error) {
      native().close(this.#pidfd);
      throw error;
    }
    this.#poll.unref();
  }

  /**
   * Resolves when the process has ended, at once when it has already.
   * @param options `signal` ends the waiting. @throws the signal's reason
   */
  ended({ signal }: { signal?: AbortSignal | undefined } = {}): Promise<TreeEnd> {
    return whileWanted(this.#ended, signal);
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#poll.close();
    native().close(this.#pidfd);
  }

  /** The kernel tells it of a process that has been reaped; until then it can be read. In between it can be either. */
  #readEnd(): TreeEnd {
    const wait = native().waitStatus(this.#pidfd) ?? zombieStatus(this.#process) ?? native().waitStatus(this.#pidfd);
    if (wait === undefined) return { status: undefined };
    const signal = wait & 0x7f;
    if (signal === 0) return { exitCode: wait >> 8, status: wait >> 8 };
    const exitSignal = signalNames.get(signal); // real-time signals have no names
    return { ...(exitSignal === undefined ? {} : { exitSignal }), status: 128 + signal };
  }
}

/** Source: man 5 proc_pid_stat, the last field. */
function zombieStatus(process: ProcessId | undefined): number | undefined {
  const stat = process === undefined ? undefined : readProc(`${process.pid}/stat`);
  if (stat === undefined) return undefined;
  const { state, startTime } = parseStat(stat);
  return state === 'Z' && String(startTime) === process?.startTime
    ? Number(stat.trimEnd().split(' ').at(-1))
    : undefined;
}
