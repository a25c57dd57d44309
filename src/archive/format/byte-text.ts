import { visibleName } from '../../visible.js';

/**
 * A name as a person can read it in a message: UTF-8 where it is that, with bytes of no encoding as `\xNN`, and as much
 * for what a terminal would act on. For display only: it does not lead back to the bytes.
 */
export function printable(name: Uint8Array | string): string {
  const bytes =
    typeof name === 'string' ? Buffer.from(name) : Buffer.from(name.buffer, name.byteOffset, name.byteLength);
  const text = bytes.toString('utf8');
  const chars = Buffer.from(text).equals(bytes) ? text : bytes.toString('latin1').replace(/[\x80-\xff]/g, hex);
  return visibleName(chars);
}

function hex(char: string): string {
  return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

/** A byte string as JSON carries it: text where it is UTF-8, `{ base64 }` where it is not. */
export type JsonBytes = string | { base64: string };

export function bytesToJson(bytes: Uint8Array): JsonBytes {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = buffer.toString('utf8');
  return Buffer.from(text).equals(buffer) ? text : { base64: buffer.toString('base64') };
}

export function bytesFromJson(value: JsonBytes): Buffer {
  return typeof value === 'string' ? Buffer.from(value) : Buffer.from(value.base64, 'base64');
}
