import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CriuError } from '../errors/criu-error.js';
import { file_entry, type unix_sk_entry } from '../generated/criu.js';
import { FILES_MAGIC } from './files.js';
import { imageEntries } from './image-file.js';

interface Place {
  start: number;
  end: number;
  usk: unix_sk_entry | null | undefined;
}

/**
 * Moves unix sockets in the images behind the one that they are connected to, where that one does not know of them: a
 * connection that is made and not accepted yet, a datagram socket that is connected to a bound one. CRIU looks for the
 * other end as it reads an entry, among those before it, and refuses the restore when it comes later. The entries
 * themselves stay as they are, byte for byte. Source: criu/sk-unix.c, try_resolve_unix_peer and fixup_unix_peer, CRIU
 * v4.2.
 * @returns how many were moved
 * @throws CriuError CRIU_IMAGE
 */
export async function orderUnixSockets(imagesDir: string): Promise<number> {
  const path = join(imagesDir, 'files.img');
  const entries: Place[] = [];
  for await (const place of imageEntries(path, FILES_MAGIC, placeOf)) entries.push(place);
  const later = new Map(entries.map(({ usk }, i) => [usk?.ino, { usk, i }]));
  const isEarly = ({ usk }: Place, i: number): boolean => {
    const peer = usk == null || usk.peer === 0 ? undefined : later.get(usk.peer);
    return peer !== undefined && peer.i > i && peer.usk?.peer !== usk?.ino;
  };
  const early = entries.filter(isEarly);
  const [first] = entries;
  if (early.length === 0 || first === undefined) return 0;
  try {
    const image = await readFile(path);
    const ordered = [...entries.filter((place, i) => !isEarly(place, i)), ...early];
    const parts = ordered.map(({ start, end }) => image.subarray(start, end));
    await writeFile(path, Buffer.concat([image.subarray(0, first.start), ...parts]));
  } catch (cause) {
    throw new CriuError('CRIU_IMAGE', { path, cause });
  }
  return early.length;
}

/** With the four bytes of its length. */
function placeOf(data: Uint8Array, offset: number): Place {
  const { usk } = file_entry.decode(data);
  return { start: offset - 4, end: offset + data.length, usk };
}
