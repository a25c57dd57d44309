import { bad } from '../base/check-option.js';

/** Finds one thing in bytes. */
export interface Matcher {
  /** A match of more bytes may be cut, or missed, where memory is read in pieces. */
  maxBytes: number;
  /** The first match that begins at `from` or later. */
  find(data: Buffer, from: number): { start: number; end: number } | undefined;
}

/** Longer matches of a regular expression are cut where a piece of memory ends. */
export const MAX_MATCH_BYTES = 4096;

/** @throws CheckpointError BAD_OPTION */
export function matcherOf({
  text,
  regex,
}: {
  text?: string | Uint8Array | undefined;
  regex?: string | undefined;
}): Matcher {
  if ((text === undefined) === (regex === undefined)) bad('text', text, 'either a text or a `regex`');
  if (text !== undefined && typeof text !== 'string' && !(text instanceof Uint8Array))
    bad('text', text, 'a text, or bytes');
  if (regex !== undefined && typeof regex !== 'string') bad('regex', regex, 'the text of a regular expression');
  return text === undefined ? regexMatcher(regex ?? '') : textMatcher(text);
}

function textMatcher(text: string | Uint8Array): Matcher {
  const wanted = Buffer.from(text as string);
  if (wanted.length === 0) bad('text', text, 'something to look for');
  return {
    maxBytes: wanted.length,
    find: (data, from) => {
      const start = data.indexOf(wanted, from);
      return start === -1 ? undefined : { start, end: start + wanted.length };
    },
  };
}

/** Memory is bytes, not text: each is one character to the expression, and a character of several is its UTF-8. */
function regexMatcher(source: string): Matcher {
  let expression: RegExp;
  try {
    expression = new RegExp(Buffer.from(source).toString('latin1'), 'g');
  } catch (cause) {
    bad('regex', source, `a regular expression (${cause instanceof Error ? cause.message : String(cause)})`);
  }
  let known: Buffer | undefined;
  let text = '';
  return {
    maxBytes: MAX_MATCH_BYTES,
    find: (data, from) => {
      if (data !== known) text = data.toString('latin1');
      known = data;
      expression.lastIndex = from;
      for (let found = expression.exec(text); found !== null; found = expression.exec(text)) {
        if (found[0] !== '') return { start: found.index, end: found.index + found[0].length };
        expression.lastIndex++;
      }
      return undefined;
    },
  };
}
