import { json } from './output.js';

/**
 * A JSON object of which the first value is a list, as it comes: what is known only at the end follows it, and nothing
 * of the list is held.
 */
export class JsonList {
  readonly #begin: string;
  #isBegun = false;

  constructor(name: string) {
    this.#begin = `{\n  "${name}": [`;
  }

  /** @param text One or several lines, not indented. */
  item(text: string): string {
    const before = this.#isBegun ? ',' : this.#begin;
    this.#isBegun = true;
    return `${before}\n${text.replace(/^/gm, '    ')}`;
  }

  end(rest: object): string {
    return `${this.#isBegun ? '\n  ' : this.#begin}],\n${json(rest).replace(/^\{\n/, '')}\n`;
  }
}
