import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { native, NativeError } from '../../native.js';
import { Child } from '../../process.js';
import { Semaphore } from '../../semaphore.js';
import { criuEnvironment } from './breakpoints.js';
import type { Connection, SwrkEnd } from './criu-connection.js';
import { CriuError } from '../errors/criu-error.js';
import { PacketSocket, type Packet, type WaitOptions } from './packet-socket.js';
import { PipeTail } from './pipe-tail.js';
import { isShortage } from '../errors/resource-shortage.js';
import { isOurTerminal } from './terminal.js';
import { whenUnanswered } from './unanswered.js';

export interface SwrkOptions {
  /** The program to run as `criuPath swrk FD`. */
  criuPath: string;
  /**
   * Run it in the namespaces of this process, by a program that enters them and passes packets on
   * (native/init/enter.c). Directories of its requests have to be among `fds` then.
   */
  enter?: { pid: number; program: string } | undefined;
  /** Our descriptors that CRIU is to inherit: the one at index i is number 4 + i there. They stay ours. */
  fds?: readonly number[];
  /**
   * A terminal of ours (not a master), for a restore with `shellJob` whose tree had one that was outside of it: it is
   * opened anew, and is the restored tree's. It stays ours.
   *
   * If it is the controlling terminal of this process, CRIU and what it restores are in our session, in process groups
   * of their own; the restored job is in the foreground when `restore()` resolves, and stays there until somebody of
   * the session takes that back, as a shell does when this process ends: from then on it reads EIO. If it is of no
   * session yet, as the one of a pty that was opened with O_NOCTTY, it becomes the controlling terminal of CRIU's
   * session: the restored job is in its foreground, Ctrl-C and its like reach it, and CRIU's process goes on as a small
   * program that leads the session until the job has ended (`ended` tells how; it does not keep the event loop alive).
   * If it is of another session, CRIU cannot restore a job into it. A tree whose root leads its session, as a shell
   * does itself, gets it without control: it reads and writes, but no Ctrl-C reaches it; see `orphanPtsMaster` for
   * those. Source: criu/tty.c, tty_prep_fds and pty_open_unpaired_slave, criu/pstree.c, prepare_pstree_for_shell_job,
   * CRIU v4.2. Default: /dev/null.
   */
  terminal?: number;
  /**
   * The umask of CRIU, and of a program that it becomes (`execCmd`); restored tasks have their own. Default 0o077: the
   * images that CRIU makes hold the memory of programs, and it would let everybody read them.
   */
  umask?: number;
  /** CRIU's environment. Default: ours. */
  env?: NodeJS.ProcessEnv;
  /** False keeps CRIU from reading /etc/criu/default.conf and the user's. Default true. Needs CRIU 3.11. */
  defaultConfig?: boolean;
  /** The longest packet that is accepted from CRIU, in bytes. Default 16 MiB. */
  maxMessageBytes?: number;
}

const firstInheritedFd = 4;
const stderrBytes = 16 * 1024;
const CONTINUE_MS = 100;

/**
 * CRIUs begin and end one for each core but one, which is the event loop's: fifty that begin together on two cores kept
 * the loop waiting for a core for 15 to 20 ms in one turn, and fifty that end no less (Linux 6.18).
 */
const places = Math.max(1, availableParallelism() - 1);
const starting = new Semaphore(places);
const ending = new Semaphore(places);
/** One that takes its time to end, as when it has work to undo, keeps the others waiting no longer than this. */
const LONGEST_END_MS = 50;

/**
 * One `criu swrk` process and our end of its socket. The process has a session of its own, or a process group, so that
 * what a terminal sends to its foreground group (Ctrl-C) does not reach CRIU in the middle of a dump.
 *
 * When our end closes (`close()`, or our own death), CRIU notices at its next send or receive, undoes what it was
 * doing, lets the tasks go, and exits. It is reaped in every case.
 */
export class Swrk implements Connection {
  readonly pid: number;
  /** How the process ended; resolves when it has been reaped. Never rejects. */
  readonly ended: Promise<SwrkEnd>;
  readonly #child: Child;
  readonly #socket: PacketSocket;
  #isProgram = false;

  private constructor(child: Child, socket: PacketSocket, stderr: PipeTail) {
    this.pid = child.pid;
    this.#child = child;
    this.#socket = socket;
    this.ended = child.ended.then((end) => {
      socket.peerIsGone();
      if (end.exitSignal !== undefined && !this.#isProgram) endOrphans(child.pid);
      // A daemon of CRIU's (page server) may hold its stderr open: what there is now is CRIU's own.
      return { ...end, stderr: stderr.finish() };
    });
  }

  /**
   * @throws CriuError CRIU_NOT_FOUND when the program cannot be started, CRIU_IO when no program can, with the system's
   * error as cause; NativeError
   */
  static start(options: SwrkOptions): Promise<Swrk> {
    const alone = starting.idle;
    return starting.run(() => Swrk.#start(options, alone));
  }

  /**
   * One that is alone starts on the event loop, which is the shortest way. Of many each would hold the loop for an
   * exec.
   */
  static async #start(
    {
      criuPath,
      enter,
      fds = [],
      terminal,
      env,
      umask = 0o077,
      defaultConfig = true,
      maxMessageBytes = 16 << 20,
    }: SwrkOptions,
    alone: boolean,
  ): Promise<Swrk> {
    let socket: PacketSocket | undefined;
    let stderr: PipeTail | undefined;
    const theirEnds: number[] = [];
    try {
      const [ours, theirs] = native().socketpairSeqpacket();
      socket = new PacketSocket(ours, maxMessageBytes);
      theirEnds.push(theirs);
      const [errors, theirErrors] = native().pipe();
      theirEnds.push(theirErrors);
      stderr = new PipeTail(errors, stderrBytes);
      const swrk = ['swrk', '3', ...(defaultConfig ? [] : ['--no-default-config'])];
      const args = enter === undefined ? swrk : ['--enter', String(enter.pid), criuPath, ...swrk];
      const session = terminal === undefined ? {} : { opensTerminal: true, sharesSession: isOurTerminal(terminal) };
      const program = {
        path: enter?.program ?? criuPath,
        args,
        env: criuEnvironment(criuPath, env),
        umask,
        fds: [terminal, undefined, theirErrors, theirs, ...fds],
        ...session,
      };
      return new Swrk(alone ? Child.start(program) : await Child.startInThread(program), socket, stderr);
    } catch (cause) {
      socket?.close();
      stderr?.finish();
      if (cause instanceof NativeError) throw cause;
      throw new CriuError(isShortage(cause) ? 'CRIU_IO' : 'CRIU_NOT_FOUND', { criuPath, cause });
    } finally {
      for (const fd of theirEnds) native().close(fd);
    }
  }

  becameProgram({ keepsLoop }: { keepsLoop: boolean }): void {
    this.#isProgram = true;
    if (!keepsLoop) this.#child.keepLoop(false);
  }

  /** The number that a descriptor given at the start has in CRIU's process; undefined when it was not given. */
  static inheritedFd(fds: readonly number[], fd: number): number | undefined {
    const index = fds.indexOf(fd);
    return index < 0 ? undefined : firstInheritedFd + index;
  }

  /** Our end has been closed, by `disconnect()` or `close()`. */
  get disconnected(): boolean {
    return this.#socket.closed;
  }

  send(data: Uint8Array, fds: readonly number[] = [], options: WaitOptions = {}): Promise<void> {
    return this.#socket.send(data, fds, options);
  }

  /** The next packet; `undefined` when CRIU has closed its end or has ended, and no packet of it waits any more. */
  receive(options: WaitOptions = {}): Promise<Packet | undefined> {
    return this.#socket.receive(options);
  }

  /**
   * Closes our end without waiting for CRIU: it undoes what is under way. One that somebody stopped goes on, or it
   * would not notice.
   */
  disconnect(): void {
    this.#child.kill('SIGCONT');
    this.#socket.close();
  }

  /**
   * Closes our end, when it is this one's turn, and resolves when CRIU has been reaped. What must end at once, since it
   * holds tasks, is to be disconnected first.
   * @param graceMs How long CRIU may take to undo its work before it is killed. Default 10000. A kill can harm the
   *   tasks it holds: their memory may still contain CRIU's own code. One that waits for a file system's server is
   *   killed after a second: it changes no task then.
   */
  async close({ graceMs = 10_000 }: { graceMs?: number } = {}): Promise<SwrkEnd> {
    if (this.disconnected) return this.#end(graceMs);
    const { ended } = await ending.run(async () => {
      const end = this.#end(graceMs);
      await Promise.race([end, sleep(LONGEST_END_MS, undefined, { ref: false })]);
      return { ended: end }; // in an object: a promise that is returned is awaited
    });
    return ended;
  }

  async #end(graceMs: number): Promise<SwrkEnd> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), graceMs);
    // It opens files in the name of tasks that wait: it undoes nothing until the server answers.
    const answered = whenUnanswered(this.pid, () => this.#child.kill('SIGKILL'));
    // It may be stopped while it undoes its work, too; to one that runs the signal means nothing.
    const wakening = setInterval(() => this.#child.kill('SIGCONT'), CONTINUE_MS);
    try {
      // Last: it wakes CRIU, which then often has to wait until this thread sleeps.
      this.disconnect();
      return await this.ended;
    } finally {
      clearTimeout(timer);
      answered();
      clearInterval(wakening);
    }
  }
}

/**
 * A CRIU that is killed leaves children that wait for it for ever: it forks some to learn what the kernel can do. They
 * are in its process group, which nothing else joins: the tasks of a dump are not CRIU's, and half-restored ones are
 * killed anyway.
 */
export function endOrphans(group: number): void {
  try {
    process.kill(-group, 'SIGKILL');
  } catch {
    // there are none
  }
}
