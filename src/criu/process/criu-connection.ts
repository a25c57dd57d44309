import { fstatSync } from 'node:fs';
import { native } from '../../native.js';
import type { ProcessEnd } from '../../process.js';
import { CriuError } from '../errors/criu-error.js';
import { bad, string } from '../rpc/option-values.js';
import { PacketSocket, type Packet, type WaitOptions } from './packet-socket.js';

/** How CRIU's process ended. */
export interface SwrkEnd extends ProcessEnd {
  /** The last 16 KiB of what it wrote to stderr. */
  stderr: string;
}

/** The way to one CRIU: a process of our own (`Swrk`), or a worker of a `criu service` (`ServiceConnection`). */
export interface Connection {
  /** CRIU's process; undefined when it is not ours. */
  readonly pid: number | undefined;
  /** How it ended; never rejects. */
  readonly ended: Promise<SwrkEnd>;
  readonly disconnected: boolean;
  send(data: Uint8Array, fds?: readonly number[], options?: WaitOptions): Promise<void>;
  /** The next packet, `undefined` at the connection's end. */
  receive(options?: WaitOptions): Promise<Packet | undefined>;
  disconnect(): void;
  /** CRIU's process is another program now (`execCmd`), for which the event loop goes on or not. */
  becameProgram?(options: { keepsLoop: boolean }): void;
  close(options?: { graceMs?: number }): Promise<SwrkEnd>;
}

/** One of the first two. */
export interface ServiceOptions {
  /** The socket of `criu service --address PATH`. */
  socketPath?: string;
  /** A SOCK_SEQPACKET socket that is connected to a CRIU already; the client's from here on, and closed with it. */
  fd?: number;
  /** The longest packet that is accepted, in bytes. Default 16 MiB. */
  maxMessageBytes?: number;
  /**
   * Where CRIU finds our directories, `imagesDir` and `workDir`, when another process has made the socket pair: our
   * descriptors, and their numbers there. CRIU opens them in /proc of its peer, which is whoever made the pair.
   */
  peerFds?: ReadonlyMap<number, number>;
}

function isSocket(fd: number): boolean {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    return false; // not even a descriptor
  }
}

/** For errors. */
export function nameOf({ socketPath, fd }: ServiceOptions): string {
  return socketPath ?? `descriptor ${String(fd)}`;
}

/**
 * A connection to a `criu service`, which forks a worker for it. The worker is the service's child: its pid and its end
 * are not seen from here, and it can be given no descriptors.
 */
export class ServiceConnection implements Connection {
  readonly pid = undefined;
  readonly ended: Promise<SwrkEnd>;
  readonly #socket: PacketSocket;
  #end: (end: SwrkEnd) => void = () => undefined;

  private constructor(socket: PacketSocket) {
    this.#socket = socket;
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  /** @throws CriuError CRIU_NOT_FOUND when nothing answers there, with the system's error as cause; BAD_OPTION */
  static open(options: ServiceOptions): ServiceConnection {
    const { socketPath, fd, maxMessageBytes = 16 << 20 } = options;
    if ((socketPath === undefined) === (fd === undefined))
      bad('socketPath', 'a service has either a path or a descriptor');
    if (fd !== undefined && !isSocket(fd)) bad('fd', `${String(fd)} is not a descriptor of a socket`);
    try {
      if (fd !== undefined) native().hold(fd);
      return new ServiceConnection(
        new PacketSocket(fd ?? native().connectSeqpacket(string('socketPath', socketPath as string)), maxMessageBytes),
      );
    } catch (cause) {
      if (cause instanceof CriuError) throw cause;
      throw new CriuError('CRIU_NOT_FOUND', {
        ...(socketPath === undefined ? { criuPath: nameOf(options) } : { socketPath }),
        cause,
      });
    }
  }

  get disconnected(): boolean {
    return this.#socket.closed;
  }

  send(data: Uint8Array, fds: readonly number[] = [], options: WaitOptions = {}): Promise<void> {
    return this.#socket.send(data, fds, options);
  }

  receive(options: WaitOptions = {}): Promise<Packet | undefined> {
    return this.#socket.receive(options);
  }

  disconnect(): void {
    this.#socket.close();
    this.#end({ stderr: '' });
  }

  close(): Promise<SwrkEnd> {
    this.disconnect();
    return this.ended;
  }
}
