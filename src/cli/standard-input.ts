import { fstatSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { isatty } from 'node:tty';
import { InvalidArgumentError } from 'commander';
import type { ArchiveSource } from '../index.js';

export interface ArchiveArgument extends AsyncDisposable {
  archive: ArchiveSource;
  archiveName?: string;
}

/**
 * What the argument names; `-` is the standard input. A file there is read by its descriptor, if nobody has read from it
 * before us.
 * @throws InvalidArgumentError when that is a terminal
 */
export async function archiveOf(argument: string): Promise<ArchiveArgument> {
  if (argument !== '-') return { archive: argument, [Symbol.asyncDispose]: () => Promise.resolve() };
  if (isatty(0))
    throw new InvalidArgumentError('Standard input is a terminal: send an archive into it, or give its path.');
  const archiveName = '(standard input)';
  if (!fstatSync(0).isFile() || !/^pos:\s*0$/m.test(readFileSync('/proc/self/fdinfo/0', 'latin1')))
    return { archive: process.stdin, archiveName, [Symbol.asyncDispose]: () => Promise.resolve() };
  const archive = await open('/proc/self/fd/0');
  return { archive, archiveName, [Symbol.asyncDispose]: () => archive.close() };
}
