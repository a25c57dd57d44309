import { createReadStream } from 'node:fs';
import type Long from 'long';
import { CriuError } from '../errors/criu-error.js';

// criu/include/magic.h: one of these opens every image but the inventory; the second number names the kind.
const commonMagics = [0x54564319, 0x55105940];
const maxEntryBytes = 64 << 20;

/**
 * The entries of an image that is a magic number and length-prefixed messages, one at a time: memory is bounded by the
 * longest entry. `decode` is told where in the file its entry begins.
 * @throws CriuError CRIU_IMAGE when the file is missing, cut, of another kind, or holds what is no such message
 */
export async function* imageEntries<T>(
  path: string,
  magic: number,
  decode: (data: Uint8Array, offset: number) => T,
): AsyncGenerator<T, void, undefined> {
  const bytes = new ByteQueue(createReadStream(path)[Symbol.asyncIterator]());
  try {
    let found = (await bytes.take(4))?.readUInt32LE();
    if (found !== undefined && commonMagics.includes(found)) found = (await bytes.take(4))?.readUInt32LE();
    if (found !== magic) throw new CriuError('CRIU_IMAGE', { path, reason: 'it is of another kind' });
    for (let prefix = await bytes.take(4); prefix !== undefined; prefix = await bytes.take(4)) {
      const length = prefix.readUInt32LE();
      if (length > maxEntryBytes) throw new CriuError('CRIU_IMAGE', { path, reason: `an entry of ${length} bytes` });
      const entry = length === 0 ? Buffer.alloc(0) : await bytes.take(length);
      if (entry === undefined) throw new CriuError('CRIU_IMAGE', { path, reason: 'it is cut short' });
      yield decode(entry, bytes.taken - length);
    }
  } catch (cause) {
    throw cause instanceof CriuError ? cause : new CriuError('CRIU_IMAGE', { path, cause });
  } finally {
    await bytes.end();
  }
}

export async function imageEntry<T>(path: string, magic: number, decode: (data: Uint8Array) => T): Promise<T> {
  for await (const entry of imageEntries(path, magic, decode)) return entry;
  throw new CriuError('CRIU_IMAGE', { path, reason: 'it is empty' });
}

/** @throws RangeError for what a number cannot hold exactly; none of CRIU's sizes and counts comes near */
export function toNumber(value: number | Long): number {
  const number = typeof value === 'number' ? value : value.toNumber();
  if (!Number.isSafeInteger(number)) throw new RangeError(`${String(value)} is too large`);
  return number;
}

/** Exact amounts of bytes out of a stream's chunks. */
class ByteQueue {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);
  taken = 0;

  constructor(chunks: AsyncIterator<Buffer>) {
    this.#chunks = chunks;
  }

  /** Undefined at the end of the stream; a part of `length` there is an error. */
  async take(length: number): Promise<Buffer | undefined> {
    const parts = [this.#rest];
    let have = this.#rest.length;
    while (have < length) {
      const next = await this.#chunks.next();
      if (next.done === true) break;
      parts.push(next.value);
      have += next.value.length;
    }
    const all = parts.length === 1 ? this.#rest : Buffer.concat(parts);
    if (have === 0) return undefined;
    if (have < length) throw new Error(`it is cut short: ${have} bytes where ${length} should be`);
    this.#rest = all.subarray(length);
    this.taken += length;
    return all.subarray(0, length);
  }

  async end(): Promise<void> {
    await this.#chunks.return?.();
  }
}
