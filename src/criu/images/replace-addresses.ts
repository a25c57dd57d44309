import { readFile, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { Reader, Writer } from 'protobufjs/minimal.js';
import { CriuError } from '../errors/criu-error.js';
import { FILES_MAGIC } from './files.js';
import { imageEntries } from './image-file.js';

/** images/fdinfo.proto, file_entry; images/sk-inet.proto, inet_sk_entry, CRIU v4.2. */
const INET_SOCKET_FIELD = 4;
const ADDRESS_FIELDS = [11, 12];
const VARINT = 0;
const BYTES = 2;

/** An address as the images have it: its bytes four to a number, in the order of this machine. */
export type AddressWords = readonly number[];

/** @returns undefined for a text that is no IPv4 or IPv6 address */
export function addressWords(text: string): AddressWords | undefined {
  const family = isIP(text);
  if (family === 0 || text.includes('%')) return undefined;
  const bytes = family === 4 ? Buffer.from(text.split('.').map(Number)) : ipv6Bytes(text);
  return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(i * 4));
}

/**
 * Gives the inet sockets in `files.img` other addresses, at both ends: whoever had an old one has the new one.
 * Everything else stays as it is, byte for byte.
 * @param image Where the changed image is written. Default: in the place of the old one.
 * @returns how often each of the replacements was made
 * @throws CriuError CRIU_IMAGE
 */
export async function replaceAddresses(
  imagesDir: string,
  replacements: readonly (readonly [old: AddressWords, by: AddressWords])[],
  image = join(imagesDir, 'files.img'),
): Promise<number[]> {
  const path = join(imagesDir, 'files.img');
  const made = replacements.map(() => 0);
  const parts: Buffer[] = [];
  let start = 0;
  const renew = (words: AddressWords): AddressWords => {
    const i = replacements.findIndex(
      ([old]) => old.length === words.length && old.every((word, n) => word === words[n]),
    );
    if (i < 0) return words;
    made[i]!++;
    return replacements[i]![1];
  };
  const change = (data: Uint8Array, offset: number): void => {
    if (parts.length === 0) start = offset - 4;
    const entry = renewField(data, INET_SOCKET_FIELD, (socket) => renewAddresses(socket, renew));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(entry.length);
    parts.push(length, entry);
  };
  for await (const _ of imageEntries(path, FILES_MAGIC, change));
  try {
    const head = (await readFile(path)).subarray(0, parts.length === 0 ? undefined : start);
    await writeFile(image, Buffer.concat([head, ...parts]), { mode: 0o600 });
  } catch (cause) {
    throw new CriuError('CRIU_IMAGE', { path: image, cause });
  }
  return made;
}

interface Field {
  number: number;
  type: number;
  /** With its tag. */
  whole: Uint8Array;
  /** What comes behind the tag. */
  at: number;
}

function* fieldsOf(message: Uint8Array): Generator<Field> {
  const reader = Reader.create(message);
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    const at = reader.pos;
    reader.skipType(tag & 7);
    yield { number: tag >>> 3, type: tag & 7, whole: message.subarray(start, reader.pos), at: at - start };
  }
}

/** A message within the message is given the same as bytes, and comes back so. */
function renewField(message: Uint8Array, number: number, renew: (inner: Uint8Array) => Uint8Array): Buffer {
  const parts: Uint8Array[] = [];
  for (const field of fieldsOf(message)) {
    if (field.number !== number || field.type !== BYTES) {
      parts.push(field.whole);
      continue;
    }
    const inner = renew(Reader.create(field.whole.subarray(field.at)).bytes());
    parts.push(
      Writer.create()
        .uint32((number << 3) | BYTES)
        .bytes(inner)
        .finish(),
    );
  }
  return Buffer.concat(parts);
}

/** The numbers of an address are fields of their own, side by side. */
function renewAddresses(socket: Uint8Array, renew: (words: AddressWords) => AddressWords): Uint8Array {
  const parts: Uint8Array[] = [];
  const fields = [...fieldsOf(socket)];
  for (let i = 0; i < fields.length;) {
    const { number, type, whole } = fields[i]!;
    if (!ADDRESS_FIELDS.includes(number) || type !== VARINT) {
      parts.push(whole);
      i++;
      continue;
    }
    const words: number[] = [];
    for (; fields[i]?.number === number && fields[i]?.type === VARINT; i++) {
      const { whole: each, at } = fields[i]!;
      words.push(Reader.create(each.subarray(at)).uint32());
    }
    for (const word of renew(words))
      parts.push(
        Writer.create()
          .uint32((number << 3) | VARINT)
          .uint32(word)
          .finish(),
      );
  }
  return Buffer.concat(parts);
}

function ipv6Bytes(text: string): Buffer {
  const [head = '', tail] = text
    .replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...bytes: string[]) => {
      const [a, b, c, d] = bytes.slice(0, 4).map(Number) as [number, number, number, number];
      return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
    })
    .split('::');
  const groups = (part: string): number[] => (part === '' ? [] : part.split(':').map((group) => parseInt(group, 16)));
  const [before, after] = [groups(head), groups(tail ?? '')];
  const all =
    tail === undefined ? before : [...before, ...Array<number>(8 - before.length - after.length).fill(0), ...after];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}
