import { constants, fstatSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { Socket } from 'node:net';
import { isatty } from 'node:tty';
import { InvalidArgumentError } from 'commander';
import { errnoOf } from '../errors.js';
import type { ArchiveSource } from '../index.js';

export interface ArchiveArgument extends AsyncDisposable {
  archive: ArchiveSource;
  archiveName?: string;
}

/** A FIFO, or what `<(COMMAND)` stands for in a shell: comes in order, as from the standard input. */
function pipeOf(path: string): ArchiveArgument | undefined {
  if (statSync(path, { throwIfNoEntry: false })?.isFIFO() !== true) return undefined;
  // Without waiting for a writer: nothing comes when there is none.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  // Of a FIFO that has had no writer yet, poll(2) would not say that it is at its end.
  const first = firstByte(fd);
  const archive = new Socket({ fd, readable: true, writable: false });
  if (first?.length === 0) archive.push(null);
  else if (first !== undefined) archive.unshift(first);
  return { archive, archiveName: path, [Symbol.asyncDispose]: () => Promise.resolve(void archive.destroy()) };
}

/** None at the end, undefined where nothing has come yet. */
function firstByte(fd: number): Buffer | undefined {
  const byte = Buffer.alloc(1);
  try {
    return byte.subarray(0, readSync(fd, byte));
  } catch (error) {
    if (errnoOf(error) === 'EAGAIN') return undefined;
    throw error;
  }
}

/**
 * What the argument names; `-` is the standard input. A file there is read by its descriptor, if nobody has read from
 * it before us.
 * @throws InvalidArgumentError when that is a terminal
 */
export async function archiveOf(argument: string): Promise<ArchiveArgument> {
  if (argument !== '-')
    return pipeOf(argument) ?? { archive: argument, [Symbol.asyncDispose]: () => Promise.resolve() };
  if (isatty(0))
    throw new InvalidArgumentError('Standard input is a terminal: send an archive into it, or give its path.');
  const archiveName = '(standard input)';
  if (!fstatSync(0).isFile() || !/^pos:\s*0$/m.test(readFileSync('/proc/self/fdinfo/0', 'latin1')))
    return { archive: process.stdin, archiveName, [Symbol.asyncDispose]: () => Promise.resolve() };
  const archive = await open('/proc/self/fd/0');
  return { archive, archiveName, [Symbol.asyncDispose]: () => archive.close() };
}
