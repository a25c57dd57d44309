import type { MemoryMatch, MemoryPiece, MemorySearch } from '../index.js';
import { bytes } from './output.js';

/** What a terminal shows of bytes: everything else is a dot. */
function ascii(data: Buffer): string {
  return data.toString('latin1').replace(/[^\x20-\x7e]/g, '.');
}

export function matchLine({ address, kind, before, match, after }: MemoryMatch): string {
  return `${address.padEnd(14)}  ${kind.padEnd(10)}  ${ascii(before)}${ascii(match)}${ascii(after)}\n`;
}

/** For JSON: bytes are base64; `text` is for people. */
export function matchJson({ address, kind, before, match, after }: MemoryMatch): string {
  const text = `${ascii(before)}${ascii(match)}${ascii(after)}`;
  const [b, m, a] = [before, match, after].map((data) => data.toString('base64'));
  return JSON.stringify({ address, kind, text, before: b, match: m, after: a });
}

export function searchLine({ matches, searchedBytes, missingBytes }: MemorySearch): string {
  const missing = missingBytes === 0 ? '' : `; ${bytes(missingBytes)} more were dumped and are not in this archive`;
  return `${matches} ${matches === 1 ? 'match' : 'matches'} in ${bytes(searchedBytes)}${missing}\n`;
}

const LINE_BYTES = 16;

/** As `hexdump -C`. */
export function hexLines({ address, bytes: count, data }: MemoryPiece): string {
  if (data === undefined) return `${hex(address)}  (${count} bytes that are not in this archive)\n`;
  let text = '';
  for (let at = 0; at < data.length; at += LINE_BYTES) {
    const line = data.subarray(at, at + LINE_BYTES);
    const pairs = line.toString('hex').match(/../g) ?? [];
    const halves = [pairs.slice(0, 8).join(' '), pairs.slice(8).join(' ')].join('  ');
    text += `${hex(address + at)}  ${halves.padEnd(3 * LINE_BYTES)}  |${ascii(line)}|\n`;
  }
  return text;
}

function hex(address: number): string {
  return address.toString(16).padStart(12, '0');
}
