/**
 * What was unpacked into a prepared directory, file by file, so that a change is noticed before the directory is used.
 * The record is a file beside it: neither writing nor checking keeps more in memory than the names of the directories
 * that lead to where the walk is.
 */
import { constants, closeSync, createReadStream, openSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { printable } from '../../archive/index.js';
import { native } from '../../native.js';
import { lstatAt, NO_LINKS, pathOfFd } from '../../openat.js';
import { takeTurns } from '../../yield-to-loop.js';
import { CheckpointError } from '../base/checkpoint-error.js';

/** One file of the walk: its path relative to the root in latin1, and what must not change of it. */
interface Seen {
  path: string;
  state: string;
  bytes: number;
}

const CHUNK_BYTES = 64 * 1024;
const END = '\0';

/**
 * Records all that lies in these entries of a directory.
 * @param fd The directory, held open.
 * @returns how many files there are, and their apparent sizes in bytes
 */
export async function writeRecord(
  fd: number,
  entries: readonly string[],
  recordName: string,
  signal?: AbortSignal,
): Promise<{ files: number; bytes: number }> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
  const record = native().openat2(fd, Buffer.from(recordName), flags, 0o600, NO_LINKS);
  const sum = { files: 0, bytes: 0 };
  try {
    let text = '';
    const flush = (): void => {
      for (let rest = Buffer.from(text, 'latin1'); rest.length > 0;) rest = rest.subarray(writeSync(record, rest));
      text = '';
    };
    for await (const { path, state, bytes } of walk(fd, entries, signal)) {
      text += `${state} ${path}${END}`;
      sum.files++;
      sum.bytes += bytes;
      if (text.length >= CHUNK_BYTES) flush();
    }
    flush();
  } finally {
    closeSync(record);
  }
  return sum;
}

/**
 * Compares the directory with its record.
 * @throws CheckpointError PREPARED_CHANGED with the first path that differs
 */
export async function checkRecord(
  dir: string,
  fd: number,
  entries: readonly string[],
  recordName: string,
  signal?: AbortSignal,
): Promise<void> {
  const changed = (path: string, what: string): CheckpointError =>
    new CheckpointError('PREPARED_CHANGED', { dir, path: join(dir, printable(Buffer.from(path, 'latin1'))), what });
  const recorded = lines(openRecord(dir, fd, recordName));
  try {
    for await (const { path, state } of walk(fd, entries, signal)) {
      const line = (await recorded.next()).value;
      if (line === `${state} ${path}`) continue;
      const wanted = line === undefined ? undefined : pathIn(line);
      if (wanted === path) throw changed(path, 'is not as it was unpacked');
      if (wanted !== undefined && isMissing(fd, wanted)) throw changed(wanted, 'is missing');
      throw changed(path, 'is new');
    }
    const rest = (await recorded.next()).value;
    if (rest !== undefined) throw changed(pathIn(rest), 'is missing');
  } finally {
    await recorded.return(undefined);
  }
}

function openRecord(dir: string, fd: number, name: string): number {
  try {
    return native().openat2(fd, Buffer.from(name), constants.O_RDONLY, 0, NO_LINKS);
  } catch (cause) {
    throw new CheckpointError('NOT_PREPARED', { dir, what: `its ${name} cannot be opened`, cause });
  }
}

/** A state has no space in it. */
function pathIn(line: string): string {
  return line.slice(line.indexOf(' ') + 1);
}

function isMissing(fd: number, path: string): boolean {
  try {
    return lstatAt(fd, Buffer.from(path, 'latin1')) === undefined;
  } catch {
    return false;
  }
}

async function* lines(fd: number): AsyncGenerator<string, undefined, void> {
  let rest = '';
  for await (const chunk of createReadStream('', { fd, encoding: 'latin1', highWaterMark: CHUNK_BYTES })) {
    const parts = (rest + (chunk as string)).split(END);
    rest = parts.pop() as string;
    yield* parts;
  }
  return undefined;
}

interface Level {
  fd: number;
  /** With a slash at its end, or ''. */
  path: string;
  /** In latin1, the last first. */
  names: string[];
}

/** Directories before what is in them, names in the order of their bytes; mounts and links are not followed. */
async function* walk(
  fd: number,
  entries: readonly string[],
  signal: AbortSignal | undefined,
): AsyncGenerator<Seen, void, void> {
  const levels: Level[] = [{ fd: openSync(pathOfFd(fd), DIRECTORY), path: '', names: [...entries].sort().reverse() }];
  let since = performance.now();
  try {
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const name = level.names.pop();
      if (name === undefined) {
        closeSync(level.fd);
        levels.pop();
        continue;
      }
      const seen = look(level, name);
      if (seen === undefined) continue;
      yield seen;
      if (seen.isDirectory) levels.push(enter(level, name));
      since = await takeTurns(since, signal);
    }
  } finally {
    for (const { fd: open } of levels) closeSync(open);
  }
}

const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY;

/** A directory's times and size are those of its list, which is compared by itself. */
function look({ fd, path }: Level, name: string): (Seen & { isDirectory: boolean }) | undefined {
  const stat = lstatAt(fd, Buffer.from(name, 'latin1'));
  if (stat === undefined) return undefined;
  const { mode, uid, gid, ino, size, mtimeNs, ctimeNs, rdev } = stat;
  const isDirectory = stat.isDirectory();
  const state = [mode.toString(8), uid, gid, ino, ...(isDirectory ? [] : [rdev, size, mtimeNs, ctimeNs])].join(':');
  return { path: path + name, state, bytes: stat.isFile() ? Number(size) : 0, isDirectory };
}

function enter({ fd, path }: Level, name: string): Level {
  const inner = native().openat2(fd, Buffer.from(name, 'latin1'), DIRECTORY | constants.O_NOFOLLOW, 0, NO_LINKS);
  try {
    const names = readdirSync(pathOfFd(inner), { encoding: 'latin1' });
    return { fd: inner, path: `${path}${name}/`, names: names.sort().reverse() };
  } catch (error) {
    closeSync(inner);
    throw error;
  }
}
