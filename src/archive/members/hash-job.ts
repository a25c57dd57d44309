import { native } from '../../native.js';
import { MEMBER_DIGESTS } from './description.js';

const MEMBERS = 2048;
const BYTES = 32 * 1024 * 1024;

/** The members of one file, by the numbers of their segments. */
export interface HashedSegments {
  readonly fd: number;
  offsetOf(segment: number): number;
  headerBytesOf(segment: number): number;
  dataBytesOf(segment: number): number;
  lengthOf(segment: number): number;
  /** Digests of the header and of the data, the `index`-th of those in the buffer. */
  setDigests(segment: number, digests: Buffer, index: number): void;
}

/** Members that one native call hashes. Its tables go round from call to call. */
export class HashJob {
  readonly #segments = new Uint32Array(MEMBERS);
  readonly #numbers = new Float64Array(MEMBERS * 3);
  readonly #digests = Buffer.allocUnsafeSlow(MEMBERS * MEMBER_DIGESTS);
  #count = 0;
  #bytes = 0;

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  get isFull(): boolean {
    return this.#count === MEMBERS || this.#bytes >= BYTES;
  }

  add(area: HashedSegments, segment: number): void {
    this.#numbers[3 * this.#count] = area.offsetOf(segment);
    this.#numbers[3 * this.#count + 1] = area.headerBytesOf(segment);
    this.#numbers[3 * this.#count + 2] = area.dataBytesOf(segment);
    this.#segments[this.#count++] = segment;
    this.#bytes += area.lengthOf(segment);
  }

  /** Gives the area the digests of all that was added, and can be used again. */
  async run(area: HashedSegments): Promise<void> {
    await native().hashMembers(area.fd, this.#numbers.subarray(0, 3 * this.#count), this.#digests);
    for (let i = 0; i < this.#count; i++) area.setDigests(this.#segments[i] as number, this.#digests, i);
    this.#count = this.#bytes = 0;
  }
}
