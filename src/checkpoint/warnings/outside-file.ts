import { bytesFromJson, printable, type JsonBytes } from '../../archive/index.js';

/** A file that the tree uses and that is in no archived tree, as it was in the archive's instant. */
export interface OutsideFile {
  /** On this machine; a restore looks for it there. */
  path: JsonBytes;
  /** `mapped`: shared and writable. Such a file can change without any change of its times. */
  use: 'mapped' | 'writing';
  /** These three are absent where a server would have to be asked for them (FUSE, NFS), while the tree is frozen. */
  bytes?: number;
  /** Nanoseconds since 1970, in decimal: they do not fit JavaScript's numbers. */
  mtimeNs?: string;
  ctimeNs?: string;
}

export function printableJson(path: JsonBytes): string {
  return printable(bytesFromJson(path));
}
