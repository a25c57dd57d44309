import { native } from '../../native.js';
import type { ByteRange } from '../format/entry.js';
import { LINE_MORE_BYTES } from '../format/manifest.js';
import type { Member } from './reader.js';

/** So many members at most go through one call, */
const MEMBERS = 512;
/** with about so much data. */
const BYTES = 8 * 1024 * 1024;
/** And so many files to write to, which are open until then. */
const FILES = 64;

/** `struct member` of native/archive/pass.c, in doubles. */
const NUMBERS = 6;
const DIGEST_BYTES = 32;
/** Between two looks at whether it is still wanted, the thread reads so much. */
const CHUNK_BYTES = 256 * 1024;

/** The file that a member's data goes into. */
export interface MemberFile {
  readonly fd: number;
  /** In the order of the stored data; together as long as it. */
  readonly ranges: readonly ByteRange[];
  /** All its data is there. Closes it. */
  finish(): void;
  /** What went wrong with it. */
  failed(cause: unknown): Error;
  close(): void;
}

/** Members that one native call reads, hashes, and puts where they go. Its memory goes round from call to call. */
export class MemberBatch {
  readonly #members = new Float64Array(MEMBERS * NUMBERS);
  readonly #digests = Buffer.allocUnsafeSlow(MEMBERS * DIGEST_BYTES);
  readonly #control = new Uint32Array(2);
  #names = Buffer.allocUnsafeSlow(32 * 1024);
  #lines = Buffer.allocUnsafeSlow(64 * 1024);
  #ranges: number[] = [];
  #files: MemberFile[] = [];
  #count = 0;
  #namesBytes = 0;
  #start = 0;
  #end = 0;
  /** Regular members, and their data in bytes. */
  regular = 0;
  dataBytes = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get isFull(): boolean {
    return this.#count === MEMBERS || this.#files.length === FILES || this.#end - this.#start >= BYTES;
  }

  add({ entry, headerOffset, dataOffset, storedBytes }: Member, end: number, file: MemberFile | undefined): void {
    const at = NUMBERS * this.#count++;
    if (at === 0) this.#start = headerOffset;
    this.#end = end;
    const isRegular = entry.type === 'file';
    this.#members[at] = headerOffset;
    this.#members[at + 1] = dataOffset - headerOffset;
    this.#members[at + 2] = storedBytes;
    this.#members[at + 3] = isRegular ? entry.name.length : -1;
    this.#members[at + 4] = file?.fd ?? -1;
    this.#members[at + 5] = file?.ranges.length ?? 0;
    if (file !== undefined) {
      this.#files.push(file);
      for (const { offset, length } of file.ranges) this.#ranges.push(offset, length);
    }
    if (!isRegular) return;
    this.regular++;
    this.dataBytes += storedBytes;
    this.#addName(entry.name);
  }

  #addName(name: Buffer): void {
    const used = this.#namesBytes;
    this.#namesBytes += name.length;
    if (this.#namesBytes > this.#names.length) {
      const grown = Buffer.allocUnsafeSlow(2 * this.#namesBytes);
      this.#names.copy(grown, 0, 0, used);
      this.#names = grown;
    }
    name.copy(this.#names, used);
  }

  /** Where the thread is in the archive, as far as it has told. */
  get reached(): number {
    return Math.min(this.#end, this.#start + Atomics.load(this.#control, 1) * CHUNK_BYTES);
  }

  get end(): number {
    return this.#end;
  }

  /** The thread is to stop; the call then fails with ECANCELED. */
  cancel(): void {
    Atomics.store(this.#control, 0, 1);
  }

  /**
   * Resolves with the digests of the members' headers, and their lines in the list of hashes: good until the batch is
   * cleared. Every file is closed then, whatever happens.
   * @throws What `failed` makes of it, where the file could not be written; else the errno error of reading
   */
  async run(archiveFd: number): Promise<{ headers: Buffer; lines: Buffer }> {
    try {
      const longest = LINE_MORE_BYTES * this.regular + 2 * this.#namesBytes;
      if (this.#lines.length < longest) this.#lines = Buffer.allocUnsafeSlow(longest);
      const used = await native().passMembers(
        archiveFd,
        this.#members.subarray(0, NUMBERS * this.#count),
        Float64Array.from(this.#ranges),
        this.#names,
        this.#digests,
        this.#lines,
        this.#control,
      );
      for (let file = this.#files.pop(); file !== undefined; file = this.#files.pop()) file.finish();
      return {
        headers: this.#digests.subarray(0, DIGEST_BYTES * this.#count),
        lines: this.#lines.subarray(0, used),
      };
    } catch (error) {
      const { member, syscall } = error as { member?: number; syscall?: string };
      throw member !== undefined && syscall === 'write' ? (this.#fileOf(member)?.failed(error) ?? error) : error;
    } finally {
      for (const file of this.#files) file.close();
    }
  }

  #fileOf(member: number): MemberFile | undefined {
    const fd = this.#members[NUMBERS * member + 4];
    return this.#files.find((file) => file.fd === fd);
  }

  clear(): void {
    this.#ranges = [];
    this.#files = [];
    this.#count = this.#namesBytes = this.regular = this.dataBytes = 0;
    this.#control.fill(0);
  }

  /** Closes the files of one that is never run. */
  drop(): void {
    for (const file of this.#files) file.close();
    this.clear();
  }
}
