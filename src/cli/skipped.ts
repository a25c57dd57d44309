import type { SkippedArchive } from '../index.js';
import { printError } from './streams.js';

/** An archive of a directory is passed over for an older one. */
export function tellSkipped({ path, message, code }: SkippedArchive): void {
  printError(
    `stillframe: passed over ${path}: ${message.split('\n')[0] ?? ''}${code === undefined ? '' : ` [${code}]`}`,
  );
}
