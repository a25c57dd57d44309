/** What the fields of a header block say, believed as far as they can be read. */
import { BLOCK_BYTES } from './tar-encode.js';

/** NaN, or a number that is none of the safe integers, where it is none. */
export function fieldNumber(block: Buffer, at: number, width: number): number {
  return (block[at] as number) & 0x80 ? base256(block, at, width) : parseOctal(block, at, width);
}

export function isZero(bytes: Buffer): boolean {
  return bytes.length === 0 || (bytes[0] === 0 && bytes.subarray(1).equals(bytes.subarray(0, -1)));
}

/** Without `./` in front and slashes at the end; everything else about a name is for the reader to judge. */
export function normalName(raw: string): Buffer {
  let from = 0;
  while (raw.startsWith('./', from) && raw.length > from + 2) from += 2;
  let to = raw.length;
  while (to > from + 1 && raw[to - 1] === '/') to--;
  return Buffer.from(raw.slice(from, to), 'latin1');
}

export function ustarName(block: Buffer): string {
  const name = untilZero(block.toString('latin1', 0, 100));
  // GNU's own magic is "ustar  ": there the prefix's place holds times.
  const prefix = block.toString('latin1', 257, 263) === 'ustar\0' ? untilZero(block.toString('latin1', 345, 500)) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

export function untilZero(text: string): string {
  const zero = text.indexOf('\0');
  return zero < 0 ? text : text.slice(0, zero);
}

/** Sums by unsigned bytes, and by signed ones as some old tars did. */
export function checksumFits(block: Buffer): boolean {
  const claimed = parseOctal(block, 148, 8);
  let unsigned = 0;
  let negative = 0;
  for (let i = 0; i < BLOCK_BYTES; i++) {
    const byte = i >= 148 && i < 156 ? 0x20 : (block[i] as number);
    unsigned += byte;
    if (byte > 127) negative += 256;
  }
  return claimed === unsigned || claimed === unsigned - negative;
}

/** NaN when the field is no octal number; an empty field is 0. */
function parseOctal(block: Buffer, at: number, width: number): number {
  let i = at;
  const end = at + width;
  while (i < end && block[i] === 0x20) i++;
  let value = 0;
  for (; i < end; i++) {
    const byte = block[i] as number;
    if (byte === 0 || byte === 0x20) break;
    if (byte < 0x30 || byte > 0x37) return NaN;
    value = value * 8 + (byte - 0x30);
  }
  return value;
}

function base256(block: Buffer, at: number, width: number): number {
  const first = block[at] as number;
  // 0xff in front is a negative number in two's complement, 0x80 a positive one.
  let value = first === 0xff ? -1n : BigInt(first & 0x7f);
  for (let i = at + 1; i < at + width; i++) value = value * 256n + BigInt(block[i] as number);
  return Number(value);
}
