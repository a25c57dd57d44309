/** A prepared directory: what is where in it, and when it may be used. */
import { closeSync, constants, fstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseJson, type Manifest } from '../../archive/index.js';
import { errnoOf } from '../../errors.js';
import { native } from '../../native.js';
import { NO_LINKS } from '../../openat.js';
import { openTrusted, UntrustedDirectoryError } from '../../trusted-directory.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { checkRecord } from './record.js';

export const IMAGES = 'images';
export const TREES = 'trees';
export const INFO = 'prepared.json';
export const RECORD = 'record';
/** What the record is of. */
export const RECORDED = [IMAGES, TREES];

/** What `prepared.json` says. */
export interface PreparedInfo {
  format: 1;
  /** How the archive was named. */
  archive: string;
  /** ISO 8601. */
  preparedAt: string;
  manifest: Manifest;
  /** Each tree, by its name in the archive, and what it is called in `trees`. */
  trees: PreparedTree[];
}

export interface PreparedTree {
  name: string;
  entry: string;
}

const MAX_INFO_BYTES = 32 << 20;

/** One that was found to be as it was made; held open until it is closed. */
export class PreparedDirectory implements Disposable {
  private constructor(
    readonly path: string,
    readonly fd: number,
    readonly info: PreparedInfo,
  ) {}

  /**
   * @throws CheckpointError NOT_PREPARED, PREPARED_UNSAFE, PREPARED_CHANGED; the signal's reason
   */
  static async open(dir: string, signal?: AbortSignal): Promise<PreparedDirectory> {
    const { path, fd } = await openOwn(dir);
    try {
      const info = readInfo(path, fd);
      await checkRecord(path, fd, RECORDED, RECORD, signal);
      return new PreparedDirectory(path, fd, info);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  get images(): string {
    return join(this.path, IMAGES);
  }

  get trees(): string {
    return join(this.path, TREES);
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/** Ours, and nobody else's to enter or to put another in the place of. */
async function openOwn(dir: string): Promise<{ path: string; fd: number }> {
  const unsafe = (why: string, cause?: unknown): CheckpointError =>
    new CheckpointError('PREPARED_UNSAFE', { dir, why, cause });
  try {
    const trusted = await openTrusted(dir);
    const { uid, mode } = fstatSync(trusted.fd);
    const why =
      uid !== process.geteuid?.()
        ? `belongs to uid ${uid}`
        : (mode & 0o077) !== 0
          ? `has mode ${(mode & 0o7777).toString(8)}, which lets others in`
          : undefined;
    if (why === undefined) return trusted;
    closeSync(trusted.fd);
    throw unsafe(`${trusted.path} ${why}`);
  } catch (error) {
    if (error instanceof UntrustedDirectoryError) throw unsafe(error.message, error);
    if (errnoOf(error) === undefined) throw error;
    throw new CheckpointError('NOT_PREPARED', { dir, what: 'it cannot be opened as a directory', cause: error });
  }
}

function readInfo(dir: string, fd: number): PreparedInfo {
  const wrong = (what: string, cause?: unknown): CheckpointError =>
    new CheckpointError('NOT_PREPARED', { dir, what, cause });
  let value: unknown;
  try {
    const flags = constants.O_RDONLY | constants.O_NONBLOCK;
    const file = native().openat2(fd, Buffer.from(INFO), flags, 0, NO_LINKS);
    try {
      const stat = fstatSync(file);
      if (!stat.isFile() || stat.size > MAX_INFO_BYTES) throw wrong(`its ${INFO} is no file that \`prepare\` wrote`);
      value = parseJson(readFileSync(file));
    } finally {
      closeSync(file);
    }
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw wrong(`it has no ${INFO} that can be read`, cause);
  }
  const { format, archive, preparedAt, manifest, trees } = (value ?? {}) as Partial<
    Record<keyof PreparedInfo, unknown>
  >;
  if (format !== 1) throw wrong(`its ${INFO} is of another version`);
  const isWhole =
    typeof archive === 'string' &&
    typeof preparedAt === 'string' &&
    typeof manifest === 'object' &&
    Array.isArray(trees) &&
    trees.every(isTree);
  if (!isWhole) throw wrong(`its ${INFO} is damaged`);
  return value as PreparedInfo;
}

function isTree(value: unknown): boolean {
  const { name, entry } = (value ?? {}) as Partial<Record<keyof PreparedTree, unknown>>;
  return typeof name === 'string' && typeof entry === 'string' && /^\d+$/.test(entry);
}
