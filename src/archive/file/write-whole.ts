import type { FileHandle } from 'node:fs/promises';

/**
 * Writes all of the bytes, from this offset on: a file system that runs full may take a part, and the next call then
 * says why.
 */
export async function writeWhole(handle: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;)
    at += (await handle.write(bytes, at, bytes.length - at, offset + at)).bytesWritten;
}
