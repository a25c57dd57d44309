import { execFile } from 'node:child_process';
import { closeSync, lstatSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { openArchive, verifyArchive } from '../../archive/index.js';
import { errnoOf } from '../../errors.js';
import { pathOfFd } from '../../openat.js';
import { PrivateDirectory } from '../../private-directory.js';
import { openTrusted, UntrustedDirectoryError } from '../../trusted-directory.js';
import { cancellation } from '../base/cancellation.js';
import { CheckpointError } from '../base/checkpoint-error.js';
import { parseSubject } from '../base/recorded-target.js';
import { Phases, type Phase } from '../events/phases.js';
import { Guardian } from '../guardian/guardian.js';
import { journalRestore } from '../guardian/lock.js';
import { checkPrepareOptions, type PrepareOptions, type PrepareSettings } from './options.js';
import { INFO, RECORD, RECORDED, type PreparedInfo } from './prepared-directory.js';
import { writeRecord } from './record.js';
import { unpackInto } from './unpack-into.js';

const run = promisify(execFile);

/** What `prepare()` made. Times in milliseconds, sizes in bytes. */
export interface PrepareReport {
  /** The prepared directory. */
  dir: string;
  /** How many files and directories are in it, and the regular files' apparent sizes together. */
  files: number;
  bytes: number;
  totalMs: number;
  phasesMs: Partial<Record<Phase, number>>;
}

/**
 * Verifies an archive and unpacks it once, for copies of its tree: `restore({ archive: dir, clone: true })` is then
 * CRIU's own work and little else. The directory appears whole, with mode 0700, or not at all; when this process dies,
 * the guardian removes what it had made. It holds the memory of the checkpointed tree: keep it as you keep the archive.
 * @throws ArchiveError; CheckpointError PREPARE_REFUSED, NOT_A_CHECKPOINT, BAD_OPTION, NOT_ROOT, GUARDIAN_MISSING,
 *   STATE_DIR_UNSAFE; CriuError CRIU_IMAGE; the signal's reason
 */
export async function prepare(options: PrepareOptions): Promise<PrepareReport> {
  const settings = checkPrepareOptions(options);
  options.signal?.throwIfAborted();
  return prepareOnce(options, settings).catch((error: unknown) => {
    throw cancellation(error, options.signal);
  });
}

async function prepareOnce(options: PrepareOptions, settings: PrepareSettings): Promise<PrepareReport> {
  const { signal } = options;
  const { dir, archive: archivePath } = settings;
  const phases = new Phases('prepare', options);
  refuseTaken(dir);
  const parent = await openParent(dir);
  closeSync(parent.fd);

  await using archive = await openArchive(settings.source, {
    name: archivePath,
    tmpDir: settings.workDir,
    maxUnpackedBytes: options.maxUnpackedBytes,
    signal,
  });
  const verified = await phases.run('verify', () =>
    verifyArchive(archive, { signal, onProgress: phases.bytesOf('verify') }),
  );
  parseSubject(verified.manifest.subject, archivePath);
  using journal = journalRestore(archivePath, settings.stateDir);
  await using guardian = await phases.run('guardian', () =>
    Guardian.arm({ journal, placeGuardianIn: options.placeGuardianIn, signal }),
  );
  const hidden = PrivateDirectory.make(await openParent(dir), guardian.hiddenNames);
  try {
    const { trees } = await phases.run('extract', () => unpackInto(verified, hidden, archivePath, signal));
    const info: PreparedInfo = {
      format: 1,
      archive: archivePath,
      preparedAt: new Date().toISOString(),
      manifest: verified.manifest,
      trees,
    };
    writeFileSync(join(hidden.path, INFO), `${JSON.stringify(info)}\n`, { mode: 0o600, flag: 'wx' });
    const { files, bytes } = await phases.run('record', async () => {
      const sum = await writeRecord(hidden.fd, RECORDED, RECORD, signal);
      // A directory that has its name after a power failure, and not its content, would be taken for changed.
      await run('sync', ['-f', pathOfFd(hidden.fd).replace('self', String(process.pid))]);
      return sum;
    });
    signal?.throwIfAborted();
    appear(hidden, dir);
    return { dir, files, bytes, totalMs: phases.elapsedMs, phasesMs: phases.durationsMs };
  } catch (error) {
    await hidden.remove().catch((cause: unknown) => {
      throw new AggregateError([error, cause], `the prepared directory was not made, and ${hidden.path} is left`);
    });
    throw explain(error, dir);
  }
}

/** Under its own name, in one step; an empty directory of that name gives way. */
function appear(hidden: PrivateDirectory, dir: string): void {
  try {
    rmdirSync(dir);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
  hidden.keepAs(basename(dir));
}

function explain(error: unknown, dir: string): unknown {
  const errno = errnoOf(error);
  if (errno !== 'EEXIST' && errno !== 'ENOTEMPTY' && errno !== 'ENOTDIR') return error;
  return new CheckpointError('PREPARE_REFUSED', { dir, why: 'something has taken its name meanwhile', cause: error });
}

function refuseTaken(dir: string): void {
  const stat = lstatSync(dir, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const why = !stat.isDirectory()
    ? 'is not a directory'
    : stat.uid !== process.geteuid?.()
      ? `belongs to uid ${stat.uid}`
      : readdirSync(dir).length > 0
        ? 'is not empty'
        : undefined;
  if (why !== undefined) throw new CheckpointError('PREPARE_REFUSED', { dir, why });
}

async function openParent(dir: string): Promise<{ path: string; fd: number }> {
  try {
    return await openTrusted(dirname(dir));
  } catch (cause) {
    const why =
      cause instanceof UntrustedDirectoryError
        ? `would lie where others could rename it: ${cause.message}`
        : `cannot be made in ${dirname(dir)}`;
    throw new CheckpointError('PREPARE_REFUSED', { dir, why, cause });
  }
}
