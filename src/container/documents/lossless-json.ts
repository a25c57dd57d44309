/**
 * JSON whose whole numbers may be larger than JavaScript's: an OCI configuration has 64-bit ones (an unlimited rlimit),
 * which `JSON.parse` would round. They are kept as text, and come out again as they were.
 */
import { randomBytes } from 'node:crypto';

/** A string, or a number that is not within one. */
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

export interface LosslessJson {
  value: unknown;
  /** The value as it is now, as JSON again. */
  encode(value: unknown): string;
}

/** @throws SyntaxError */
export function parseLossless(text: string): LosslessJson {
  // Checked as it is: a token that was replaced could make JSON of what is none.
  JSON.parse(text);
  // Nothing in the text can be taken for a number of ours: its author could not know this.
  const mark = `integer-${randomBytes(16).toString('hex')}:`;
  const marked = text.replace(TOKENS, (token) =>
    token.startsWith('"') || String(Number(token)) === token ? token : `"${mark}${token}"`,
  );
  const kept = new RegExp(`"${mark}([^"]*)"`, 'g');
  return {
    value: JSON.parse(marked) as unknown,
    encode: (value) => JSON.stringify(value, null, 2).replace(kept, '$1'),
  };
}
