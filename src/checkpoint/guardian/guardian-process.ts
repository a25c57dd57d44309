import { existsSync } from 'node:fs';
import { Socket } from 'node:net';
import { builtPaths } from '../../installed.js';
import { native, NativeError } from '../../native.js';
import { Child, type ProcessEnd } from '../../process.js';
import { CheckpointError } from '../base/checkpoint-error.js';

// A round trip takes a tenth of a millisecond; a guardian that needs a second is stopped, or worse.
const ANSWER_MS = 1000;

/**
 * The guardian's process and its socket: records out, answers in. Our end closes with our death (it is
 * close-on-exec: no other child has it), and that is all the guardian waits for.
 */
export class GuardianProcess {
  readonly pid: number;
  /** Resolves when it has ended and is reaped. Never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: Child;
  readonly #socket: Socket;
  /** What it has answered, and what it has done of its own accord. */
  readonly #answers: string[] = [];
  readonly #deeds: string[] = [];
  #rest = '';
  #waiter: (() => void) | undefined;

  private constructor(child: Child, socket: Socket) {
    this.pid = child.pid;
    this.#child = child;
    this.#socket = socket;
    // What an `error` says (EPIPE) is known sooner and better from its end.
    this.#socket.on('error', () => undefined);
    this.#socket.setEncoding('utf8');
    this.#socket.on('data', (text: string) => this.#hear(text));
    // Not before all it said has been heard.
    const heardOut = new Promise((resolve) => this.#socket.once('close', resolve));
    this.ended = child.ended.then(async (end) => {
      this.#waiter?.();
      await heardOut;
      return end;
    });
    // It must not keep a program alive that has nothing else to do.
    this.#keepLoop(false);
  }

  /** @throws CheckpointError GUARDIAN_MISSING; NativeError */
  static start(): GuardianProcess {
    const path = guardianPath();
    const [ours, theirs] = native().socketpairStream();
    const socket = new Socket({ fd: ours });
    try {
      return new GuardianProcess(
        Child.start({ path, cwd: '/', env: {}, fds: [undefined, undefined, undefined, theirs] }),
        socket,
      );
    } catch (cause) {
      socket.destroy();
      if (cause instanceof NativeError) throw cause;
      throw new CheckpointError('GUARDIAN_MISSING', { tried: [path], cause });
    } finally {
      native().close(theirs);
    }
  }

  get end(): ProcessEnd | undefined {
    return this.#child.end;
  }

  /** Hands records over; when this returns they are in the kernel's hands and outlive us. */
  say(...records: string[]): void {
    if (this.end === undefined) this.#socket.write(records.map((record) => `${record}\0`).join(''));
  }

  /**
   * Says the records and resolves when the guardian has taken in all of them.
   * @param question The record, said last, that it answers.
   * @throws CheckpointError GUARDIAN_LOST when it is dead or does not answer, GUARDIAN_REFUSED with the record it could
   * not take
   */
  async ask(records: string[], question: 'ready?' | 'window open'): Promise<void> {
    this.say(...records, question);
    const answer = await this.#answer();
    if (answer === undefined) throw new CheckpointError('GUARDIAN_LOST', { pid: this.pid, ...this.end });
    const [, errno, record] = /^error (\d+) (.*)$/s.exec(answer) ?? [];
    if (record !== undefined) throw new CheckpointError('GUARDIAN_REFUSED', { record, errno: Number(errno) });
  }

  /** Our end of the conversation is over, as if we had died; what it does then is heard until it ends. */
  async abandon(): Promise<{ deeds: string[]; end: ProcessEnd }> {
    this.#keepLoop(true);
    this.#socket.end();
    const end = await this.ended;
    return { deeds: this.#deeds.splice(0), end };
  }

  /** The same, and nobody listens any more: it has to outlive us. */
  leave(): void {
    this.#socket.destroySoon();
  }

  /** Waits for its end without letting the event loop run dry. */
  async awaitEnd(): Promise<ProcessEnd> {
    this.#keepLoop(true);
    return this.ended;
  }

  /** Last resort: for a guardian that does not listen. */
  kill(): void {
    this.#child.kill('SIGKILL');
  }

  async #answer(): Promise<string | undefined> {
    this.#keepLoop(true);
    let timeout: NodeJS.Timeout | undefined;
    try {
      if (this.#answers.length === 0 && this.end === undefined) {
        await new Promise<void>((resolve) => {
          this.#waiter = resolve;
          timeout = setTimeout(resolve, ANSWER_MS);
        });
      }
      return this.#answers.shift();
    } finally {
      clearTimeout(timeout);
      this.#waiter = undefined;
      this.#keepLoop(false);
    }
  }

  #hear(text: string): void {
    const parts = (this.#rest + text).split('\0');
    this.#rest = parts.pop() as string;
    for (const line of parts) (isAnswer(line) ? this.#answers : this.#deeds).push(line);
    if (this.#answers.length > 0) this.#waiter?.();
  }

  #keepLoop(alive: boolean): void {
    this.#child.keepLoop(alive);
    if (alive) this.#socket.ref();
    else this.#socket.unref();
  }
}

const isAnswer = (line: string): boolean => line === 'ok' || /^error \d/.test(line);

/** @throws CheckpointError GUARDIAN_MISSING with the paths tried */
function guardianPath(): string {
  const tried = builtPaths('stillframe-guardian');
  const path = tried.find((path) => existsSync(path));
  if (path === undefined) throw new CheckpointError('GUARDIAN_MISSING', { tried });
  return path;
}
