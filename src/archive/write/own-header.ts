import { encodeHeader } from '../format/tar-encode.js';

/** Seconds only: the header of a document with a short name is one block then. */
function wholeSecond(): bigint {
  return BigInt(Math.floor(Date.now() / 1000)) * 1_000_000_000n;
}

/** Of a regular member that is no file of a tree, but ours: a document, a list, or a tree that is a tar of its own. */
export function ownHeader(name: Buffer, size: number, mtimeNs = wholeSecond()): Buffer {
  return encodeHeader({
    name,
    type: 'file',
    mode: 0o600,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    size,
    mtimeNs,
  });
}
