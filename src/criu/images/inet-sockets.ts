import { join } from 'node:path';
import { file_entry } from '../generated/criu.js';
import { FILES_MAGIC } from './files.js';
import { imageEntries } from './image-file.js';

export const AF_INET6 = 10;
const IPPROTO_TCP = 6;
/** include/net/tcp_states.h. */
const TCP_LISTEN = 10;

/** A TCP socket that listens for connections. */
export interface ListeningSocket {
  family: 4 | 6;
  /** Its bytes, in the order of the network. */
  address: Buffer;
  port: number;
}

/**
 * The sockets in `files.img` that listen on a TCP port.
 * @throws CriuError CRIU_IMAGE
 */
export async function readListeningSockets(imagesDir: string): Promise<ListeningSocket[]> {
  const sockets: ListeningSocket[] = [];
  const path = join(imagesDir, 'files.img');
  for await (const { isk } of imageEntries(path, FILES_MAGIC, (data) => file_entry.decode(data))) {
    if (isk == null || isk.proto !== IPPROTO_TCP || isk.state !== TCP_LISTEN) continue;
    const address = addressBytes(isk.srcAddr);
    sockets.push({ family: isk.family === AF_INET6 ? 6 : 4, address, port: isk.srcPort });
  }
  return sockets;
}

/** The bytes of an address in the order of the network: the images have them four to a number of this machine. */
export function addressBytes(words: readonly number[]): Buffer {
  const bytes = Buffer.alloc(words.length * 4);
  words.forEach((word, i) => bytes.writeUInt32LE(word >>> 0, i * 4));
  return bytes;
}
