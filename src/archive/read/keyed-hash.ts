/**
 * HalfSipHash-2-4 with 64 bits of output: fast on 32-bit integers, which JavaScript has, and nobody who does not know
 * the key can make two names collide.
 * Source: J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF", 2012; the reference code's
 * halfsiphash.c.
 */
export class KeyedHash {
  readonly #k0: number;
  readonly #k1: number;
  #v0 = 0;
  #v1 = 0;
  #v2 = 0;
  #v3 = 0;
  /** The two halves of the last `finish`. */
  low = 0;
  high = 0;

  /** @param key 8 bytes */
  constructor(key: Buffer) {
    this.#k0 = key.readInt32LE(0);
    this.#k1 = key.readInt32LE(4);
  }

  /**
   * Hashes the bytes, and calls back with the hash of each part of them that ends before one of the stops (ascending)
   * and of the whole: the hashes of all directories above a name cost hardly more than that of the name.
   */
  prefixes(bytes: Uint8Array, stops: readonly number[], onPrefix: (length: number) => void): void {
    this.#begin();
    let at = 0;
    for (const stop of [...stops, bytes.length]) {
      for (; at + 4 <= stop; at += 4) this.#block(word(bytes, at, 4));
      this.#finish(word(bytes, at, stop - at) | (stop << 24));
      onPrefix(stop);
    }
  }

  #begin(): void {
    this.#v0 = this.#k0;
    this.#v1 = this.#k1 ^ 0xee;
    this.#v2 = 0x6c796765 ^ this.#k0;
    this.#v3 = 0x74656462 ^ this.#k1;
  }

  #block(m: number): void {
    this.#v3 ^= m;
    this.#rounds(2);
    this.#v0 ^= m;
  }

  /** Leaves the state as it was, so that more bytes can follow. */
  #finish(last: number): void {
    const [v0, v1, v2, v3] = [this.#v0, this.#v1, this.#v2, this.#v3];
    this.#block(last);
    this.#v2 ^= 0xee;
    this.#rounds(4);
    this.low = (this.#v1 ^ this.#v3) >>> 0;
    this.#v1 ^= 0xdd;
    this.#rounds(4);
    this.high = (this.#v1 ^ this.#v3) >>> 0;
    this.#v0 = v0;
    this.#v1 = v1;
    this.#v2 = v2;
    this.#v3 = v3;
  }

  #rounds(count: number): void {
    let v0 = this.#v0;
    let v1 = this.#v1;
    let v2 = this.#v2;
    let v3 = this.#v3;
    for (; count > 0; count--) {
      v0 = (v0 + v1) | 0;
      v1 = rotate(v1, 5) ^ v0;
      v0 = rotate(v0, 16);
      v2 = (v2 + v3) | 0;
      v3 = rotate(v3, 8) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = rotate(v3, 7) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = rotate(v1, 13) ^ v2;
      v2 = rotate(v2, 16);
    }
    this.#v0 = v0;
    this.#v1 = v1;
    this.#v2 = v2;
    this.#v3 = v3;
  }
}

function rotate(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by));
}

/** Up to four bytes, little endian. */
function word(bytes: Uint8Array, at: number, count: number): number {
  let value = 0;
  for (let i = 0; i < count; i++) value |= (bytes[at + i] as number) << (8 * i);
  return value;
}
