/** A program that is there before it runs: native/launch/launch.c waits in its place, and becomes it. */
import { existsSync } from 'node:fs';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { builtPaths } from '../../installed.js';
import { native, NativeError } from '../../native.js';
import { Child } from '../../process.js';

export interface LaunchOptions {
  /** The file to execute, and what it is called with: its own name first. */
  path: string;
  args: readonly string[];
  cwd: string;
  env: NodeJS.ProcessEnv;
  /** Our descriptor, for its standard output and standard error. */
  log: number;
}

const ERRNO_BYTES = 4;

export class Launch {
  readonly child: Child;
  readonly #socket: Socket;

  private constructor(child: Child, socket: Socket) {
    this.child = child;
    this.#socket = socket;
  }

  /**
   * A child of ours with a session of its own, which waits for `go`. It ends by itself when we die before that.
   * @throws NativeError NATIVE_MISSING; errno errors
   */
  static prepare({ path, args, cwd, env, log }: LaunchOptions): Launch {
    const tried = builtPaths('stillframe-launch');
    const launcher = tried.find((each) => existsSync(each));
    if (launcher === undefined) throw new NativeError('NATIVE_MISSING', { tried });
    const [ours, theirs] = native().socketpairStream();
    const socket = new Socket({ fd: ours });
    try {
      const fds = [undefined, log, log, theirs];
      return new Launch(Child.start({ path: launcher, args: [path, ...args], cwd, env, fds }), socket);
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      native().close(theirs);
    }
  }

  /** Lets it execute the program. @returns the errno's name when it could not, for example `EACCES` */
  async go(): Promise<string | undefined> {
    let answer = Buffer.alloc(0);
    this.#socket.on('data', (bytes) => (answer = Buffer.concat([answer, bytes])));
    const closed = new Promise((resolve) => this.#socket.once('close', resolve));
    this.#socket.on('error', () => undefined); // what it says, the end says too
    this.#socket.write('g');
    await closed;
    if (answer.length < ERRNO_BYTES) return undefined;
    const errno = answer.readInt32LE(0);
    return Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? `errno ${errno}`;
  }

  /** Ends it, in whatever state it is. */
  async end(): Promise<void> {
    this.#socket.destroy();
    this.child.kill('SIGKILL');
    await this.child.ended;
  }
}
