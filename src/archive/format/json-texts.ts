const [SPACES, COMMA, QUOTE, BACKSLASH] = [new Set([0x20, 0x09, 0x0a, 0x0d]), 0x2c, 0x22, 0x5c];
const [BRACKET, BRACKET_END] = [0x5b, 0x5d];

/**
 * The texts of a JSON list of nothing else, one by one: as one value, millions of them would cost many times the
 * document.
 * @throws Error, SyntaxError
 */
export function* textsIn(bytes: Buffer): Generator<string> {
  const skip = (at: number): number => {
    while (SPACES.has(bytes[at] as number)) at++;
    return at;
  };
  let at = skip(0);
  if (bytes[at] !== BRACKET) throw new Error('it is no list');
  at = skip(at + 1);
  if (bytes[at] === BRACKET_END) at++;
  else {
    for (let separator: number | undefined = COMMA; separator === COMMA; separator = bytes[at++]) {
      at = skip(at);
      const start = at;
      if (bytes[at] !== QUOTE) throw new Error('it holds more than texts');
      do if (bytes[at++] === BACKSLASH) at++;
      while (at < bytes.length && bytes[at] !== QUOTE);
      yield JSON.parse(bytes.toString('utf8', start, ++at)) as string;
      at = skip(at);
    }
    if (bytes[at - 1] !== BRACKET_END) throw new Error('it does not end as a list does');
  }
  if (skip(at) < bytes.length) throw new Error('something follows it');
}
