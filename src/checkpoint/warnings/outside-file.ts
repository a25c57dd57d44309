import { bytesFromJson, printable, type JsonBytes } from '../../archive/index.js';

/** What tells whether a file has changed. */
export interface FileStamp {
  bytes: number;
  /** Nanoseconds since 1970, in decimal: they do not fit JavaScript's numbers. */
  mtimeNs: string;
  ctimeNs: string;
}

export function stampOf({ size, mtimeNs, ctimeNs }: Record<'size' | 'mtimeNs' | 'ctimeNs', bigint>): FileStamp {
  return { bytes: Number(size), mtimeNs: String(mtimeNs), ctimeNs: String(ctimeNs) };
}

/**
 * A file that the tree uses and that is in no archived tree, as it was in the archive's instant. It has no stamp where a
 * server would have had to be asked for it (FUSE, NFS) while the tree was frozen.
 */
export interface OutsideFile extends Partial<FileStamp> {
  /** On this machine; a restore looks for it there. */
  path: JsonBytes;
  /** `mapped`: shared and writable. Such a file can change without any change of its times. */
  use: 'mapped' | 'writing';
}

export function printableJson(path: JsonBytes): string {
  return printable(bytesFromJson(path));
}
