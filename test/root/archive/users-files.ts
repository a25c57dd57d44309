/** Files of users other than root, in a test's own directory. */
import { chmodSync, chownSync, lchownSync, mkdirSync, symlinkSync } from 'node:fs';

/** A service's user, who owns trees. */
export const SERVICE = 65534;

export function directoryOf(uid: number, path: string, mode = 0o755): string {
  mkdirSync(path);
  chmodSync(path, mode);
  chownSync(path, uid, uid);
  return path;
}

export function linkOf(uid: number, target: string, path: string): string {
  symlinkSync(target, path);
  lchownSync(path, uid, uid);
  return path;
}
