import { lstat, realpath, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { errnoOf, StillframeError } from '../../errors.js';
import {
  checkCompression,
  compressor,
  send,
  sendToReader,
  writableOf,
  type OutputCompression,
} from '../file/deliver.js';
import { StagingFile, type HiddenNames } from '../file/staging-file.js';
import { ArchiveError } from '../format/archive-error.js';

export interface FileOutput {
  /** The archive. Its directory must exist, and is where the archive grows, as a file without a name. */
  outputPath: string;
  /** Replace an existing file, in one step at the end. Default false: it is an error. */
  overwrite?: boolean;
}

export interface StreamOutput {
  /** What gets the archive, once it is complete, at its own pace. It is ended, or destroyed on failure. */
  output: Writable;
  /** Where the archive grows, as a file without a name. Default: the system's directory for temporary files. */
  stagingDir?: string;
}

export type OutputOptions = (FileOutput | StreamOutput) & {
  /** Compress the archive as a whole, when it is complete. Default: not at all. */
  compress?: OutputCompression | undefined;
  /** Told of hidden files, where there are any. */
  hidden?: HiddenNames | undefined;
};

export interface DeliveryOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: { done: number; total: number; unit: 'bytes' }) => void) | undefined;
}

/** @throws ArchiveError OUTPUT_EXISTS for what is not to be overwritten, or is a directory */
export async function refuseExisting(path: string, overwrite: boolean): Promise<void> {
  const existing = await lstat(path).catch(() => undefined);
  if (existing !== undefined && (!overwrite || existing.isDirectory()))
    throw new ArchiveError('OUTPUT_EXISTS', { path });
}

/** Where the archive goes, and the files without a name in which it grows. */
export class Output {
  /** For messages: the output's path, or the staging directory. */
  readonly path: string;
  readonly #directory: string;
  readonly #options: OutputOptions;
  readonly #files = new Set<StagingFile>();
  /** Opened already, and not yet in use. */
  #first: StagingFile | undefined;

  private constructor(options: OutputOptions) {
    this.#options = options;
    this.path = resolve('outputPath' in options ? options.outputPath : (options.stagingDir ?? tmpdir()));
    this.#directory = 'outputPath' in options ? dirname(this.path) : this.path;
  }

  /**
   * Opens the first file: what cannot be written is known before anything else is done.
   * @throws ArchiveError OUTPUT_EXISTS, OUTPUT_DIR_MISSING, OUTPUT_FULL, OUTPUT_FAILED
   */
  static async open(options: OutputOptions): Promise<Output> {
    const output = new Output(options);
    checkCompression(options.compress, output.path);
    if ('outputPath' in options) await refuseExisting(output.path, options.overwrite === true);
    try {
      output.#first = await output.openFile();
    } catch (cause) {
      if (['ENOSPC', 'EDQUOT'].includes(errnoOf(cause) ?? '')) throw outputError(cause, output.path);
      const isMissing = ['ENOENT', 'ENOTDIR'].includes(errnoOf(cause) ?? '');
      throw new ArchiveError(isMissing ? 'OUTPUT_DIR_MISSING' : 'OUTPUT_FAILED', { path: output.#directory, cause });
    }
    return output;
  }

  /** What was asked for, undefined for a stream. */
  get outputPath(): string | undefined {
    return 'outputPath' in this.#options ? this.path : undefined;
  }

  /** The file that the archive grows in is the one that gets its name. */
  get isFileItself(): boolean {
    return 'outputPath' in this.#options && this.#options.compress === undefined;
  }

  /** Descriptors of all its files. */
  get fds(): Int32Array {
    return Int32Array.from(this.#files, ({ fd }) => fd);
  }

  /** @throws errno errors of open(2) */
  async openFile(): Promise<StagingFile> {
    const first = this.#first;
    this.#first = undefined;
    if (first !== undefined) return first;
    const file = await StagingFile.create(this.#directory, basename(this.path), this.#options.hidden ?? {});
    this.#files.add(file);
    return file;
  }

  async discard(file: StagingFile): Promise<void> {
    this.#files.delete(file);
    await file.discard();
  }

  /** Nothing remains but what was delivered. */
  async discardAll(): Promise<void> {
    await Promise.all([...this.#files].map((file) => this.discard(file)));
  }

  /** Whether it, or what it grows in, is this directory or below it. */
  async isWithin(directory: { dev: bigint; ino: bigint }): Promise<boolean> {
    const places = [this.path];
    let path = await realpath(this.#directory);
    for (; ; path = dirname(path)) {
      places.push(path);
      if (path === dirname(path)) break;
    }
    for (const place of places) {
      const found = await stat(place, { bigint: true }).catch(() => undefined);
      if (found?.dev === directory.dev && found.ino === directory.ino) return true;
    }
    return false;
  }

  /**
   * Gives the complete archive to whom it is for. Returns how many bytes they got.
   * @param bytes How many the file has.
   */
  async deliver(file: StagingFile, bytes: number, { signal, onProgress }: DeliveryOptions): Promise<number> {
    let done = 0;
    const onRead = (read: number): void => onProgress?.({ done: (done += read), total: bytes, unit: 'bytes' });
    const options = this.#options;
    if (!('outputPath' in options))
      return sendToReader(file, compressor(options.compress), options.output, { signal, onRead });
    const overwrite = options.overwrite ?? false;
    if (options.compress === undefined) {
      await file.publish(this.path, { overwrite });
      onProgress?.({ done: bytes, total: bytes, unit: 'bytes' });
      return bytes;
    }
    const compressed = await this.openFile();
    const written = await send(file, compressor(options.compress), writableOf(compressed), { signal, onRead });
    await compressed.publish(this.path, { overwrite });
    return written;
  }
}

/**
 * What an error of the system means where the output is written.
 * @param neededBytes About how much room the archive needs, 0 when that is not known.
 */
export function outputError(error: unknown, path: string, neededBytes = 0): unknown {
  if (error instanceof StillframeError) return error;
  const errno = errnoOf(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT')
    return new ArchiveError('OUTPUT_FULL', { path, ...(neededBytes > 0 ? { bytes: neededBytes } : {}), cause: error });
  return errno === undefined ? error : new ArchiveError('OUTPUT_FAILED', { path, cause: error });
}
