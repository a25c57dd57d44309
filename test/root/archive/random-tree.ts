/** Random trees, and random changes to them, for fast-check. */
import fc from 'fast-check';
import {
  chmodSync,
  closeSync,
  ftruncateSync,
  linkSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { native } from '../../../src/native.js';

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const O_PATH = 0x200000;
const O_NOFOLLOW = 0x20000;
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_IFIFO = 0o010000;

/** One step of making or changing a tree. Places are indexes into what is there, so that each step means something. */
export type Step =
  | { do: 'file'; at: number; name: Buffer; data: Uint8Array; times: number }
  | { do: 'sparse'; at: number; name: Buffer; size: number; ranges: { offset: number; length: number }[] }
  | { do: 'directory'; at: number; name: Buffer }
  | { do: 'symlink'; at: number; name: Buffer; target: Buffer }
  | { do: 'link'; at: number; name: Buffer; of: number }
  | { do: 'node'; at: number; name: Buffer; type: number; major: number; minor: number }
  | { do: 'mode'; of: number; mode: number }
  | { do: 'owner'; of: number; uid: number; gid: number }
  | { do: 'time'; of: number; seconds: number; nanoseconds: number }
  | { do: 'xattr'; of: number; name: string; value: Uint8Array }
  | { do: 'write'; of: number; offset: number; data: Uint8Array }
  | { do: 'truncate'; of: number; size: number }
  | { do: 'rename'; of: number; at: number; name: Buffer }
  | { do: 'remove'; of: number };

const name = fc
  .oneof(
    { weight: 6, arbitrary: fc.constantFrom('a', 'b', 'c', 'd', 'e').map((s) => Buffer.from(s)) },
    { weight: 2, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 20 }).map((b) => Buffer.from(b)) },
    { weight: 1, arbitrary: fc.uint8Array({ minLength: 90, maxLength: 255 }).map((b) => Buffer.from(b)) },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom(' ', '\n', '\\', '-x', '...', 'ä', 'a=b', "'", '"', '*', '\x7f', '~')
        .map((s) => Buffer.from(s)),
    },
  )
  .map((bytes) => Buffer.from(bytes.map((b) => (b === 0 || b === 0x2f ? 0x5f : b))))
  .map((bytes) => (bytes.equals(Buffer.from('.')) || bytes.equals(Buffer.from('..')) ? Buffer.from('dots') : bytes));

const place = fc.nat(1000);
const data = fc.uint8Array({ maxLength: 3000 });
/** GNU tar's directories need not be there before: these are plain attributes that any file system keeps. */
const xattrName = fc.constantFrom(
  'user.plain',
  'user.a=b',
  'user.100%',
  'user.ü',
  'trusted.overlay.opaque',
  'trusted.x',
);
/** VFS_CAP_REVISION_2 with CAP_NET_RAW: the kernel checks this attribute's form. */
const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');

const make: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('file' as const), at: place, name, data, times: fc.constantFrom(0, 1, 1, 1, 100) }),
  fc.record({
    do: fc.constant('sparse' as const),
    at: place,
    name,
    size: fc.nat(3_000_000),
    ranges: fc.array(fc.record({ offset: fc.nat(3_000_000), length: fc.nat(9000) }), { maxLength: 4 }),
  }),
  fc.record({ do: fc.constant('directory' as const), at: place, name }),
  fc.record({ do: fc.constant('directory' as const), at: place, name }),
  fc.record({ do: fc.constant('symlink' as const), at: place, name, target: name }),
  fc.record({ do: fc.constant('link' as const), at: place, name, of: place }),
  fc.record({
    do: fc.constant('node' as const),
    at: place,
    name,
    type: fc.constantFrom(S_IFCHR, S_IFBLK, S_IFIFO),
    major: fc.nat(255),
    minor: fc.nat(300),
  }),
);

const change: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('mode' as const), of: place, mode: fc.nat(0o7777) }),
  fc.record({
    do: fc.constant('owner' as const),
    of: place,
    uid: fc.constantFrom(0, 1, 1000, 2_097_151, 2_097_152, 4_000_000_000),
    gid: fc.constantFrom(0, 5, 3_000_000),
  }),
  fc.record({
    do: fc.constant('time' as const),
    of: place,
    seconds: fc.constantFrom(-1000, 0, 1, 1_700_000_000, 8_589_934_592),
    nanoseconds: fc.constantFrom(0, 1, 999_999_999, 500_000_000),
  }),
  fc.record({
    do: fc.constant('xattr' as const),
    of: place,
    name: xattrName,
    value: fc.uint8Array({ maxLength: 200 }),
  }),
  fc.record({
    do: fc.constant('xattr' as const),
    of: place,
    name: fc.constant('security.capability'),
    value: fc.constant(capability),
  }),
  fc.record({ do: fc.constant('write' as const), of: place, offset: fc.nat(10_000), data }),
  fc.record({ do: fc.constant('truncate' as const), of: place, size: fc.nat(10_000) }),
);

const undo: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('rename' as const), of: place, at: place, name }),
  fc.record({ do: fc.constant('remove' as const), of: place }),
);

export const making: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof({ weight: 3, arbitrary: make }, { weight: 2, arbitrary: change }),
  { maxLength: 40 },
);
export const changing: fc.Arbitrary<Step[]> = fc.array(fc.oneof(make, change, undo), { maxLength: 15 });

/** A tree that takes steps. A step that the file system refuses (a name that is taken, a loop) is none. */
export class RandomTree {
  readonly #root: Buffer;
  #paths: Buffer[];

  constructor(root: string) {
    this.#root = Buffer.from(root);
    this.#paths = [this.#root];
  }

  take(steps: readonly Step[]): void {
    for (const step of steps) {
      try {
        this.#step(step);
      } catch (error) {
        if (typeof (error as NodeJS.ErrnoException).errno !== 'number') throw error;
      }
      this.#paths = this.#paths.filter((path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined);
    }
  }

  #step(step: Step): void {
    switch (step.do) {
      case 'file':
        return void this.#made(step, (path) =>
          writeFileSync(path, Buffer.concat(Array.from({ length: step.times }, () => step.data)), { flag: 'wx' }),
        );
      case 'sparse':
        return void this.#made(step, (path) => {
          const fd = openSync(path, 'wx');
          ftruncateSync(fd, step.size);
          for (const { offset, length } of step.ranges) writeSync(fd, Buffer.alloc(length, 'data'), 0, length, offset);
          closeSync(fd);
        });
      case 'directory':
        return void this.#made(step, (path) => mkdirSync(path));
      case 'symlink':
        return void this.#made(step, (path) => symlinkSync(step.target, path));
      case 'link':
        return void this.#made(step, (path) => linkSync(this.#any(step.of), path));
      case 'node':
        return void this.#made(step, (path) =>
          native().mknodat(AT_FDCWD, path, step.type | 0o600, step.major, step.minor),
        );
      case 'mode':
        if (!lstatSync(this.#any(step.of)).isSymbolicLink()) chmodSync(this.#any(step.of), step.mode);
        return;
      case 'owner':
        return lchownSync(this.#any(step.of), step.uid, step.gid);
      case 'time':
        return native().utimensat(AT_FDCWD, this.#any(step.of), step.seconds, step.nanoseconds, AT_SYMLINK_NOFOLLOW);
      case 'xattr': {
        const fd = openSync(this.#any(step.of), O_PATH | O_NOFOLLOW);
        try {
          return native().setxattrPathFd(fd, Buffer.from(step.name), Buffer.from(step.value));
        } finally {
          closeSync(fd);
        }
      }
      case 'write':
      case 'truncate': {
        if (!lstatSync(this.#any(step.of)).isFile()) return;
        const fd = openSync(this.#any(step.of), 'r+');
        try {
          return step.do === 'truncate'
            ? ftruncateSync(fd, step.size)
            : void writeSync(fd, step.data, 0, step.data.length, step.offset);
        } finally {
          closeSync(fd);
        }
      }
      case 'rename': {
        const from = this.#any(step.of);
        const to = this.#path(step);
        renameSync(from, to);
        this.#paths = this.#paths.map((path) =>
          path.equals(from) || path.subarray(0, from.length + 1).equals(Buffer.concat([from, Buffer.from('/')]))
            ? Buffer.concat([to, path.subarray(from.length)])
            : path,
        );
        return;
      }
      case 'remove':
        if (!this.#any(step.of).equals(this.#root)) removeAll(this.#any(step.of));
    }
  }

  #made(step: { at: number; name: Buffer }, make: (path: Buffer) => void): void {
    const path = this.#path(step);
    make(path);
    this.#paths.push(path);
  }

  #path({ at, name: last }: { at: number; name: Buffer }): Buffer {
    const directories = this.#paths.filter((path) => lstatSync(path).isDirectory());
    return Buffer.concat([directories[at % directories.length] as Buffer, Buffer.from('/'), last]);
  }

  #any(of: number): Buffer {
    return this.#paths[of % this.#paths.length] as Buffer;
  }
}

/** A socket in the directory, which no archive can hold. */
export async function listen(path: string): Promise<AsyncDisposable> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return { [Symbol.asyncDispose]: () => new Promise<void>((resolve) => void server.close(() => resolve())) };
}

/** rm -r for names that are bytes: Node's own takes them for UTF-8. */
function removeAll(path: Buffer): void {
  if (!lstatSync(path).isDirectory()) return unlinkSync(path);
  for (const child of readdirSync(path, { encoding: 'buffer' }))
    removeAll(Buffer.concat([path, Buffer.from('/'), child]));
  rmdirSync(path);
}
