/**
 * JSON whose whole numbers may be larger than JavaScript's: an OCI configuration has 64-bit ones (an unlimited rlimit),
 * which `JSON.parse` would round. They are kept as text, and come out again as they were.
 */
import { randomBytes } from 'node:crypto';
import { parseJson } from '../../archive/index.js';

const NUMBERS = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

export interface LosslessJson {
  value: unknown;
  /** The value as it is now, as JSON again. */
  encode(value: unknown): string;
}

/** @throws Error, SyntaxError in the words of what is wrong; its depth and number of values are bounded as by parseJson */
export function parseLossless(text: string): LosslessJson {
  // Checked as it is: a token that was replaced could make JSON of what is none.
  parseJson(Buffer.from(text));
  // Nothing in the text can be taken for a number of ours: its author could not know this.
  const mark = `integer-${randomBytes(16).toString('hex')}:`;
  const marked = outsideStrings(text, (part) =>
    part.replace(NUMBERS, (number) => (String(Number(number)) === number ? number : `"${mark}${number}"`)),
  );
  const kept = new RegExp(`"${mark}([^"]*)"`, 'g');
  return {
    value: JSON.parse(marked) as unknown,
    encode: (value) => JSON.stringify(value, null, 2).replace(kept, '$1'),
  };
}

/** Not by one expression for strings and numbers: that runs out of stack in a string of megabytes. */
function outsideStrings(json: string, change: (part: string) => string): string {
  const parts: string[] = [];
  let at = 0;
  for (let start = json.indexOf('"'); start >= 0; start = json.indexOf('"', at)) {
    parts.push(change(json.slice(at, start)));
    for (at = start + 1; json[at] !== '"'; at++) if (json[at] === '\\') at++;
    parts.push(json.slice(start, ++at));
  }
  return `${parts.join('')}${change(json.slice(at))}`;
}
