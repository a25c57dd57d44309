/**
 * What a terminal would act on rather than show: control characters of C0 (but for line ends and tabs) and C1, and
 * those that turn the direction of text or break lines: a name could otherwise hide itself, change what is said of it,
 * or reach the clipboard. Source: ECMA-48; Unicode Standard Annex #9, "Directional Formatting Characters".
 */
const ACTS = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** The text with each of them as `\xNN` or `\uNNNN`. */
export function visible(text: string): string {
  return text.replace(ACTS, escaped);
}

/** The same for a name, which has no line ends or tabs of ours. */
export function visibleName(text: string): string {
  return visible(text).replace(/[\t\n]/g, escaped);
}

/** JSON that says the same in characters that a terminal shows. */
export function visibleJson(json: string): string {
  return json.replace(ACTS, (char) => `\\u${hex(char, 4)}`);
}

function escaped(char: string): string {
  return char < '\u0100' ? `\\x${hex(char, 2)}` : `\\u${hex(char, 4)}`;
}

function hex(char: string, digits: number): string {
  return char.charCodeAt(0).toString(16).padStart(digits, '0');
}
