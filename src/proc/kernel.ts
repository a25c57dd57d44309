import { release } from 'node:os';

/** Whether the kernel is of this version or a newer one. @param running As uname(2) gives it: `6.12.9-amd64`. */
export function kernelIsFrom(major: number, minor: number, running = release()): boolean {
  const [ownMajor = 0, ownMinor = 0] = running.split('.').map((part) => parseInt(part, 10));
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
