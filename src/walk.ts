/**
 * Walking along a path from the root directory on, each component opened below the one that is held open before it, so
 * that what has been looked at cannot be exchanged for something else. Each step is taken in a thread, which is left
 * behind when the signal is aborted while the server of a file system does not answer.
 */
import { closeSync, constants } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { native } from './native.js';
import { AT_FDCWD } from './openat.js';
import { whileWanted } from './while-wanted.js';

/** As many links as the kernel follows. Source: Linux, include/linux/namei.h, MAXSYMLINKS. */
const MAX_LINKS = 40;
const { S_IFMT, S_IFDIR, S_IFLNK } = constants;
const HEAD_BYTES = 48;

/** What is at the end of a path, or on the way there. */
export interface WalkedEntry {
  /** Its path, without the links that led to it. Bytes, as all of Linux's paths. */
  path: Buffer;
  /** Opened with O_PATH; of the end the caller's to close. */
  fd: number;
  /** In stat(2)'s numbers. */
  dev: bigint;
  ino: bigint;
  mode: number;
  uid: number;
}

export interface WalkedLink extends WalkedEntry {
  target: Buffer;
  /** Of procfs: its target is what the kernel means by it, not what it says. */
  isOfProc: boolean;
  /** Nothing comes after it. */
  isLast: boolean;
}

/** What the walker accepts: both throw where they do not. */
export interface WalkRules {
  /** Called for the root directory, for each directory on the way, and for the end, whatever that is. */
  enter(entry: WalkedEntry): void;
  /** Called for each symbolic link before it is followed. */
  follow(link: WalkedLink): void;
}

/**
 * @param path Absolute. What it ends in need not be a directory.
 * @throws what the rules throw; errno errors; the signal's reason
 */
export async function walk(path: string | Buffer, rules: WalkRules, signal?: AbortSignal): Promise<WalkedEntry> {
  const left = components(Buffer.from(path as string)).reverse();
  const enterRoot = async (): Promise<WalkedEntry> => entered(await open(AT_FDCWD, SLASH, SLASH), rules);
  let at = await enterRoot();
  try {
    for (let links = 0, name = left.pop(); name !== undefined; name = left.pop()) {
      requireDirectory(at);
      const next = await open(at.fd, name, below(at.path, name));
      if ((next.mode & S_IFMT) !== S_IFLNK) {
        at = replace(at, entered(next, rules));
        continue;
      }
      try {
        rules.follow({ ...next, isLast: left.length === 0 });
        if (++links > MAX_LINKS) throw errno('ELOOP', next.path);
      } finally {
        closeSync(next.fd);
      }
      if (next.isOfProc) {
        at = replace(at, entered(await open(at.fd, name, next.path, true), rules));
        continue;
      }
      left.push(...components(next.target).reverse());
      if (next.target[0] === SLASH[0]) at = replace(at, await enterRoot());
    }
    return at;
  } catch (error) {
    closeSync(at.fd);
    throw error;
  }

  async function open(dirfd: number, name: Buffer, shown: Buffer, follow = false): Promise<Omit<WalkedLink, 'isLast'>> {
    const opening = native().openEntry(dirfd, name, follow);
    return parse(await whileWanted(opening, signal, (late) => closeSync(parse(late, shown).fd)), shown);
  }
}

/** @throws an ENOTDIR error */
export function requireDirectory({ path, mode }: WalkedEntry): void {
  if ((mode & S_IFMT) !== S_IFDIR) throw errno('ENOTDIR', path);
}

const SLASH = Buffer.from('/');

function parse(bytes: Buffer, path: Buffer): Omit<WalkedLink, 'isLast'> {
  const number = (i: number): number => Number(bytes.readBigUInt64LE(8 * i));
  return {
    path,
    fd: number(0),
    dev: bytes.readBigUInt64LE(8),
    ino: bytes.readBigUInt64LE(16),
    mode: number(3),
    uid: number(4),
    isOfProc: number(5) === 1,
    target: bytes.subarray(HEAD_BYTES),
  };
}

function entered(entry: WalkedEntry, rules: WalkRules): WalkedEntry {
  try {
    rules.enter(entry);
    return entry;
  } catch (error) {
    closeSync(entry.fd);
    throw error;
  }
}

function replace(old: WalkedEntry, by: WalkedEntry): WalkedEntry {
  closeSync(old.fd);
  return by;
}

/** Where `..` leads is seen by its descriptor; for the path it is the directory above. */
function below(path: Buffer, name: Buffer): Buffer {
  if (name.equals(Buffer.from('..'))) return path.subarray(0, Math.max(1, path.lastIndexOf(SLASH)));
  return Buffer.concat(path.equals(SLASH) ? [SLASH, name] : [path, SLASH, name]);
}

function components(path: Buffer): Buffer[] {
  return path
    .toString('latin1')
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .map((part) => Buffer.from(part, 'latin1'));
}

function errno(code: 'ENOTDIR' | 'ELOOP', path: Buffer): Error {
  return Object.assign(new Error(`${code}: ${path.toString()}`), { code, errno: -osConstants.errno[code] });
}
