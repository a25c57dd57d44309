/** Each value takes up to a hundred bytes of memory, and a document may be nothing but values. */
const MAX_VALUES = 500_000;
/** No document of ours is a tenth as deep, and what walks over one recursively would run out of stack. */
const MAX_DEPTH = 100;

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const [BRACE, BRACE_END, BRACKET, BRACKET_END, COMMA] = [0x7b, 0x7d, 0x5b, 0x5d, 0x2c];

/**
 * The value of a JSON document that anybody may have written: its depth and its number of values are bounded before it
 * is made.
 * @throws Error, SyntaxError in the words of what is wrong
 */
export function parseJson(bytes: Buffer): unknown {
  let depth = 0;
  let values = 0;
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) at = endOfString(bytes, at);
    else if (byte === BRACE_END || byte === BRACKET_END) depth--;
    else if (byte === BRACE || byte === BRACKET || byte === COMMA) {
      if (++values > MAX_VALUES) throw new Error(`more than ${MAX_VALUES} values`);
      if (byte !== COMMA && ++depth > MAX_DEPTH) throw new Error(`more than ${MAX_DEPTH} values within each other`);
    }
  }
  return JSON.parse(bytes.toString('utf8')) as unknown;
}

/** Where the quote is that ends it; the document's end when there is none. */
function endOfString(bytes: Buffer, start: number): number {
  for (let at = start + 1; at < bytes.length; at++) {
    if (bytes[at] === BACKSLASH) at++;
    else if (bytes[at] === QUOTE) return at;
  }
  return bytes.length;
}
