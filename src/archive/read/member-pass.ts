import { createHash, type Hash } from 'node:crypto';
import { errnoOf } from '../../errors.js';
import { whenAborted } from '../../when-aborted.js';
import { ArchiveError } from '../format/archive-error.js';
import { MemberBatch, type MemberFile } from './member-batch.js';
import { truncated } from './content.js';
import type { Member, OpenArchive } from './reader.js';

/** Batches at a time. Of libuv's four threads one is left to others: a large file takes a thread for seconds. */
const BATCHES = 3;
/** A batch that takes longer, as one with a large file does, tells its progress meanwhile. */
const TELL_MS = 100;

export interface MemberPassOptions {
  signal?: AbortSignal | undefined;
  /** Where in the archive it is. */
  onProgress: (offset: number) => void;
}

/**
 * The members of an archive on their way through the threads. Several batches are under way at a time; what they
 * find is taken in the archive's order.
 */
export class MemberPass {
  /** Over the digests of the headers and padding of each member. */
  readonly headers: Hash = createHash('sha256');
  /** Over the list of members as it ought to be. */
  readonly list: Hash = createHash('sha256');
  listBytes = 0;
  members = 0;
  dataBytes = 0;
  readonly #archive: OpenArchive;
  readonly #options: MemberPassOptions;
  readonly #spare: MemberBatch[] = [];
  readonly #running: { batch: MemberBatch; result: Promise<{ headers: Buffer; lines: Buffer }> }[] = [];
  #batch = new MemberBatch();

  constructor(archive: OpenArchive, options: MemberPassOptions) {
    this.#archive = archive;
    this.#options = options;
  }

  /** @param end Where the member's padding ends. */
  add(member: Member, end: number, file: MemberFile | undefined): void {
    this.#batch.add(member, end, file);
  }

  get isFull(): boolean {
    return this.#batch.isFull;
  }

  /** Sends what was added to a thread; waits while enough is under way. */
  async start(): Promise<void> {
    const batch = this.#batch;
    if (batch.isEmpty) return;
    this.#batch = this.#spare.pop() ?? new MemberBatch();
    const result = batch.run(this.#archive.handle.fd);
    result.catch(() => undefined); // it is awaited in its turn
    this.#running.push({ batch, result });
    if (this.#running.length >= BATCHES) await this.#takeOldest();
  }

  /** All that was added has been read, hashed and put where it goes. */
  async finish(): Promise<void> {
    await this.start();
    while (this.#running.length > 0) await this.#takeOldest();
  }

  /** No thread works on anything of it any more, and no file is open. */
  async settle(): Promise<void> {
    for (const { batch } of this.#running) batch.cancel();
    await Promise.allSettled(this.#running.map(({ result }) => result));
    this.#batch.drop();
  }

  async #takeOldest(): Promise<void> {
    const [oldest] = this.#running;
    if (oldest === undefined) return;
    const { batch, result } = oldest;
    const { signal, onProgress } = this.#options;
    const telling = setInterval(() => onProgress(batch.reached), TELL_MS);
    const forget = whenAborted(signal, () => this.#running.forEach((running) => running.batch.cancel()));
    try {
      const { headers, lines } = await result;
      this.headers.update(headers);
      this.list.update(lines);
      this.listBytes += lines.length;
      this.members += batch.regular;
      this.dataBytes += batch.dataBytes;
    } catch (error) {
      signal?.throwIfAborted();
      throw this.#failed(error, batch);
    } finally {
      clearInterval(telling);
      forget();
    }
    this.#running.shift();
    onProgress(batch.end);
    batch.clear();
    this.#spare.push(batch);
  }

  #failed(cause: unknown, batch: MemberBatch): unknown {
    const { path: archivePath } = this.#archive;
    if (cause instanceof ArchiveError || errnoOf(cause) === undefined) return cause;
    if (errnoOf(cause) === 'ENODATA') return truncated(archivePath, batch.end);
    return new ArchiveError('ARCHIVE_UNREADABLE', { archivePath, offset: batch.reached, cause });
  }
}
