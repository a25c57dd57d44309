/** A set of small numbers, a bit for each: to go through those that are in it costs little where they are few. */
export class Bits {
  #words = new Uint32Array(1024);

  set(number: number, isIn: boolean): void {
    const word = number >>> 5;
    if (word >= this.#words.length) {
      if (!isIn) return;
      const words = new Uint32Array(Math.max(word + 1, this.#words.length * 2));
      words.set(this.#words);
      this.#words = words;
    }
    const bit = 1 << (number & 31);
    this.#words[word] = isIn ? (this.#words[word] as number) | bit : (this.#words[word] as number) & ~bit;
  }

  /** The first from this one on; undefined when there is none. */
  next(from: number): number | undefined {
    const words = this.#words;
    let word = from >>> 5;
    if (word >= words.length) return undefined;
    let bits = (words[word] as number) & (-1 << (from & 31));
    while (bits === 0) {
      if (++word === words.length) return undefined;
      bits = words[word] as number;
    }
    return word * 32 + (31 - Math.clz32(bits & -bits));
  }
}
