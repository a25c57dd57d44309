/**
 * Pax extended header records: `<length> <keyword>=<value>\n`, the length counting itself.
 *
 * Bytes travel as latin1 strings here, one character a byte: names, link targets and attribute values are
 * bytes, and string lengths are then byte lengths. POSIX wants UTF-8 in these records; Linux names need not
 * be that, and GNU tar (xheader.c, decode_string) takes a value raw when it does not convert.
 * Source: POSIX.1-2017, pax, "pax Extended Header"; GNU tar 1.35, src/xheader.c.
 */

/**
 * All extended headers of one member, and all global ones of an archive, have at most so many bytes, written or read:
 * an attribute has at most 64 KiB, and few files have ten.
 */
export const MAX_PAX_BYTES = 1024 * 1024;

/** One record; keyword and value are bytes in latin1. */
export function paxRecord(keyword: string, value: string): string {
  const rest = keyword.length + value.length + 3;
  let length = rest + String(rest).length;
  // One more digit may be needed for the length that has grown by its own digits.
  if (rest + String(length).length !== length) length = rest + String(length).length;
  return `${length} ${keyword}=${value}\n`;
}

/** Seconds with nanoseconds: `-1.5` is one and a half seconds before 1970, as GNU tar has it. */
export function paxTime(ns: bigint): string {
  const magnitude = ns < 0n ? -ns : ns;
  const fraction = Number(magnitude % 1_000_000_000n);
  const digits = fraction === 0 ? '' : `.${String(fraction).padStart(9, '0')}`;
  return `${ns < 0n ? '-' : ''}${magnitude / 1_000_000_000n}${digits}`;
}

/** The inverse of `paxTime`; digits past the nanosecond are cut. Undefined when it is no time. */
export function parsePaxTime(text: string): bigint | undefined {
  const match = /^(-?)([0-9]{1,19})(?:\.([0-9]*))?$/.exec(text);
  if (match === null) return undefined;
  const fraction = (match[3] ?? '').slice(0, 9).padEnd(9, '0');
  const ns = BigInt(match[2] ?? '0') * 1_000_000_000n + BigInt(fraction);
  return match[1] === '-' ? -ns : ns;
}

/** Attribute names may hold `=`, which ends a keyword: GNU tar writes it as %3D, and % as %25. */
export function escapeKeyword(name: string): string {
  return /[%=]/.test(name) ? name.replace(/%/g, '%25').replace(/=/g, '%3D') : name;
}

export function unescapeKeyword(keyword: string): string {
  return keyword.includes('%') ? keyword.replace(/%3D/g, '=').replace(/%25/g, '%') : keyword;
}

/** The records of a header's body in order, or a few words on what is wrong with it. */
export function parsePax(body: Buffer): { records: [keyword: string, value: string][] } | { wrong: string } {
  const records: [string, string][] = [];
  let at = 0;
  while (at < body.length) {
    const space = body.indexOf(0x20, at);
    const digits = space < 0 || space - at > 8 ? '' : body.toString('latin1', at, space);
    const end = at + Number(digits);
    if (!/^[1-9][0-9]*$/.test(digits) || end > body.length || end <= space + 1)
      return { wrong: 'a pax record of impossible length' };
    const equals = body.indexOf(0x3d, space + 1);
    if (equals < 0 || equals >= end || equals === space + 1) return { wrong: 'a pax record without a keyword' };
    if (body[end - 1] !== 0x0a) return { wrong: 'a pax record without its end' };
    records.push([body.toString('latin1', space + 1, equals), body.toString('latin1', equals + 1, end - 1)]);
    at = end;
  }
  return { records };
}

/** NaN where the text is no number that can be counted with. */
export function paxNumber(text: string): number {
  const value = /^[0-9]{1,19}$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(value) ? value : NaN;
}
