import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';

export interface Packet {
  data: Buffer;
  /** Descriptors that came with the packet; they belong to the receiver. */
  fds: number[];
}

export interface WaitOptions {
  /** Ends the wait; the promise rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/**
 * Our end of a connected SOCK_SEQPACKET socket: one packet in, one packet out, on the event loop.
 * It owns the descriptor from the constructor to `close()`.
 */
export class PacketSocket {
  #fd: number;
  readonly #maxBytes: number;
  readonly #waits = new Set<() => void>();
  #peerIsGone = false;

  /** @param maxBytes The longest packet that is accepted; a longer one is EMSGSIZE. */
  constructor(fd: number, maxBytes: number) {
    this.#fd = fd;
    this.#maxBytes = maxBytes;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /**
   * Sends one packet, with descriptors (which stay the caller's).
   * @throws errno errors: EPIPE when the peer is gone, EMSGSIZE when the packet is longer than the socket's buffer
   */
  async send(data: Uint8Array, fds: readonly number[] = [], { signal }: WaitOptions = {}): Promise<void> {
    while (!native().sendmsg(this.#open('sendmsg'), data, fds)) {
      // Nobody makes room any more: a child of the peer's that holds its end open does not read.
      if (this.#peerIsGone)
        throw Object.assign(new Error('EPIPE: the peer is gone, sendmsg'), {
          code: 'EPIPE',
          errno: -32,
          syscall: 'sendmsg',
        });
      await this.#ready('writable', signal);
    }
  }

  /** The next packet, or `undefined` at the connection's end. */
  async receive({ signal }: WaitOptions = {}): Promise<Packet | undefined> {
    for (;;) {
      signal?.throwIfAborted();
      const packet = this.receiveNow();
      if (packet !== undefined && packet.data.length > 0) return packet;
      if (packet !== undefined) {
        // An empty packet looks like the end, and is taken for it; but it may bring descriptors.
        for (const fd of packet.fds) native().close(fd);
        return undefined;
      }
      if (this.#peerIsGone) return undefined;
      await this.#ready('readable', signal);
    }
  }

  /** A packet that already waits; `undefined` when there is none; an empty one at the connection's end. */
  receiveNow(): Packet | undefined {
    const fd = this.#open('recvmsg');
    try {
      return native().recvmsg(fd, this.#maxBytes);
    } catch (error) {
      // The peer closed without reading all that we sent. Linux says so once, ahead of what the peer still wrote.
      if (errnoOf(error) !== 'ECONNRESET') throw error;
      return native().recvmsg(fd, this.#maxBytes);
    }
  }

  /** The peer has ended, though a child of its own may hold its end open: what it has written still comes, then the end. */
  peerIsGone(): void {
    this.#peerIsGone = true;
    for (const wake of this.#waits) wake();
  }

  /** Safe to call twice. A wait that is under way rejects with EBADF. */
  close(): void {
    if (this.#fd < 0) return;
    native().close(this.#fd);
    this.#fd = -1;
    // Each wait watches a duplicate: while one is open the peer does not see the connection's end.
    for (const wake of this.#waits) wake();
  }

  #open(syscall: string): number {
    if (this.#fd >= 0) return this.#fd;
    throw Object.assign(new Error(`EBADF: socket is closed, ${syscall}`), { code: 'EBADF', errno: -9, syscall });
  }

  /** Resolves when the socket is worth another try; an error of the poll itself shows in that try. */
  #ready(event: 'readable' | 'writable', signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (): void => {
        poll.close();
        this.#waits.delete(wake);
        signal?.removeEventListener('abort', abort);
      };
      const wake = (): void => {
        finish();
        resolve();
      };
      const abort = (): void => {
        finish();
        reject(signal?.reason as Error);
      };
      const poll = new (native().Poll)(this.#open('poll'), event, wake);
      this.#waits.add(wake);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }
}
