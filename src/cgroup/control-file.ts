import { closeSync, constants, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { FreezerError } from './freezer-error.js';

/**
 * The text of a control file, without the last line's end. Synchronous on purpose: kernfs answers from
 * memory in microseconds, and a trip through the thread pool would lengthen the frozen window.
 * @throws FreezerError CGROUP_GONE, CGROUP_DENIED, CONTROL_FILE_FAILED
 */
export function readControl(path: string): string {
  try {
    return readFileSync(path, 'utf8').trimEnd();
  } catch (cause) {
    throw controlError(cause, path, 'read');
  }
}

/** @throws FreezerError CGROUP_GONE, CGROUP_DENIED, CONTROL_FILE_FAILED (with the kernel's errno as cause) */
export function writeControl(path: string, value: string): void {
  try {
    // Without O_CREAT: in a directory that is no cgroup (any more) no plain file may appear.
    writeFileSync(path, value, { flag: constants.O_WRONLY as unknown as string });
  } catch (cause) {
    throw controlError(cause, path, 'write', value);
  }
}

/** A control file held open: each read starts at the front, which is also what re-arms kernfs's POLLPRI. */
export class OpenControl implements Disposable {
  readonly fd: number;
  readonly #path: string;
  readonly #buffer = Buffer.allocUnsafe(4096);

  constructor(path: string) {
    this.#path = path;
    try {
      this.fd = openSync(path, constants.O_RDONLY);
    } catch (cause) {
      throw controlError(cause, path, 'read');
    }
  }

  read(): string {
    try {
      return this.#buffer.toString('latin1', 0, readSync(this.fd, this.#buffer, 0, this.#buffer.length, 0));
    } catch (cause) {
      throw controlError(cause, this.#path, 'read');
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/** The room's error for a failed access below a cgroup directory. ENODEV is what an open file of a removed cgroup says. */
export function controlError(
  cause: unknown,
  path: string,
  action: 'read' | 'write' | 'make' | 'remove',
  value?: string,
): FreezerError {
  switch ((cause as NodeJS.ErrnoException).code) {
    case 'ENOENT':
    case 'ENODEV':
      return new FreezerError('CGROUP_GONE', { path: dirname(path), cause });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new FreezerError('CGROUP_DENIED', { path, action, cause });
    default:
      return new FreezerError('CONTROL_FILE_FAILED', {
        path,
        action,
        ...(value === undefined ? {} : { value }),
        cause,
      });
  }
}
