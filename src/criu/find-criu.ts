import { stat } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import type { OptionNames } from '../bad-option.js';
import { isExecutable } from '../find-command.js';
import { ownCriuPaths } from '../installed.js';
import { CriuClient, type CriuFeatures } from './client/client.js';
import type { CallOptions } from './client/session.js';
import { forgetCriu, recallCriu, rememberCriu, type KnownVersion } from './criu-memory.js';
import { knowVersion } from './process/breakpoints.js';
import { CriuError } from './errors/criu-error.js';
import { OLDEST_CRIU } from './oldest.js';
import { requireMs } from './rpc/milliseconds.js';
import { filled, onlyKnown } from './rpc/option-values.js';

export interface FindCriuOptions {
  /**
   * Use this one or fail. Default: the first of `$STILLFRAME_CRIU`, `criu` on PATH, and Stillframe's own that works.
   */
  criuPath?: string;
  /**
   * How long one CRIU may take to answer, in milliseconds. Default 30000: an emulated machine takes over ten seconds.
   */
  timeoutMs?: number;
  /**
   * Directory in which it is remembered which CRIU has worked, so that another process need not ask the same file on
   * the same kernel again. Default: only this process remembers it.
   */
  stateDir?: string | undefined;
  signal?: AbortSignal | undefined;
}

/** A CRIU that works on the running kernel: it has answered VERSION and CHECK. */
export interface CriuBinary {
  path: string;
  from: CriuSource;
  /** "4.1.1" */
  version: string;
  /** 40101 */
  versionNumber: number;
}

export type CriuSource = 'option' | 'environment' | 'PATH' | 'private';

/** What is known about one candidate; `criu doctor` shows it. */
export type CriuVerdict =
  | (CriuBinary & { usable: true; features: CriuFeatures })
  | { usable: false; path: string; from: CriuSource; version?: string; versionNumber?: number; error: CriuError };

type AskOptions = Pick<FindCriuOptions, 'timeoutMs' | 'stateDir' | 'signal'>;

const OPTIONS: OptionNames<FindCriuOptions> = { criuPath: true, timeoutMs: true, stateDir: true, signal: true };

interface Candidate {
  path: string;
  from: CriuSource;
}

/**
 * The first CRIU that works here. One that has worked is not asked again in this process, nor with the same `stateDir`
 * in another, unless its file, the kernel or what this process may do has changed.
 * @throws CriuError BAD_OPTION; CRIU_NOT_FOUND when there is none, CRIU_UNUSABLE when none works, with what each one
 * said; the signal's reason
 */
export async function findCriu(given: FindCriuOptions = {}): Promise<CriuBinary> {
  const { criuPath, ...options } = checked(given);
  options.signal?.throwIfAborted();
  const tried: { path: string; problem: CriuError }[] = [];
  for (const candidate of candidates(criuPath)) {
    const verdict = await judgeOnce(candidate, options);
    if (!(verdict instanceof CriuError)) return verdict;
    tried.push({ path: candidate.path, problem: verdict });
  }
  throw new CriuError(
    tried.every(({ problem }) => problem.code === 'CRIU_NOT_FOUND') ? 'CRIU_NOT_FOUND' : 'CRIU_UNUSABLE',
    { tried },
  );
}

/**
 * Every candidate, in the order in which `findCriu` asks them, with what it can do or why it does not work.
 * @throws CriuError BAD_OPTION; the signal's reason
 */
export async function listCriu(given: FindCriuOptions = {}): Promise<CriuVerdict[]> {
  const { criuPath, ...options } = checked(given);
  options.signal?.throwIfAborted();
  const verdicts: CriuVerdict[] = [];
  for (const candidate of candidates(criuPath)) {
    let version: Pick<CriuBinary, 'version' | 'versionNumber'> | undefined;
    try {
      const binary = await judge(candidate, options, (known) => (version = known));
      verdicts.push({ ...binary, usable: true, features: await featuresOf(binary, options) });
    } catch (error) {
      options.signal?.throwIfAborted();
      if (!(error instanceof CriuError)) throw error;
      verdicts.push({ ...candidate, ...version, usable: false, error });
    }
  }
  return verdicts;
}

function checked(given: FindCriuOptions): FindCriuOptions {
  onlyKnown(given, OPTIONS);
  for (const option of ['criuPath', 'stateDir'] as const)
    if (given[option] !== undefined) filled(option, given[option]);
  requireMs('timeoutMs', given.timeoutMs);
  return given;
}

const usable = new Map<string, KnownVersion>();

async function judgeOnce(candidate: Candidate, options: AskOptions): Promise<CriuBinary | CriuError> {
  try {
    const key = await fileKey(candidate.path);
    let known = usable.get(key) ?? (await judgedBefore(key, options));
    if (known === undefined) {
      known = await judge(candidate, options);
      if (options.stateDir !== undefined) await rememberCriu(options.stateDir, key, known);
    }
    usable.set(key, known);
    knowVersion(candidate.path, known.versionNumber);
    return { version: known.version, versionNumber: known.versionNumber, ...candidate };
  } catch (error) {
    options.signal?.throwIfAborted();
    if (error instanceof CriuError) return error;
    throw error;
  }
}

/** By another process. */
async function judgedBefore(key: string, { stateDir }: AskOptions): Promise<KnownVersion | undefined> {
  if (stateDir === undefined) return undefined;
  const known = await recallCriu(stateDir, key);
  return known !== undefined && known.versionNumber >= OLDEST_CRIU.versionNumber ? known : undefined;
}

/** It has failed at its work: what was remembered of it may have been wrong, and the next search asks it again. */
export async function doubtCriu(stateDir: string): Promise<void> {
  usable.clear();
  await forgetCriu(stateDir);
}

async function fileKey(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [path, dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch (cause) {
    throw new CriuError('CRIU_NOT_FOUND', { criuPath: path, cause });
  }
}

async function judge(
  { path, from }: Candidate,
  options: AskOptions,
  onVersion?: (known: Pick<CriuBinary, 'version' | 'versionNumber'>) => void,
): Promise<CriuBinary> {
  const call = callOptions(options);
  // A candidate that hangs is killed at once: it has done nothing that it could undo.
  await using client = await CriuClient.start({ criuPath: path, graceMs: 1000 });
  const { text: version, versionNumber } = await client.version(call);
  onVersion?.({ version, versionNumber });
  knowVersion(path, versionNumber);
  if (versionNumber < OLDEST_CRIU.versionNumber)
    throw new CriuError('CRIU_TOO_OLD', { criuPath: path, version, since: OLDEST_CRIU.text });
  try {
    await client.check(call);
  } catch (cause) {
    if (cause instanceof CriuError && cause.code === 'CRIU_REQUEST_FAILED')
      throw new CriuError('CRIU_UNUSABLE', { ...cause.facts, version });
    throw cause;
  }
  return { path, from, version, versionNumber };
}

async function featuresOf({ path, versionNumber }: CriuBinary, options: AskOptions): Promise<CriuFeatures> {
  await using client = await CriuClient.start({ criuPath: path, graceMs: 1000 });
  // An older CRIU does not know the question: its silence would read as a lack that a build with LZ4 mends.
  return await client.featureCheck(
    { memTrack: true, lazyPages: true, pidfdStore: true, memCompression: versionNumber >= 40300 },
    callOptions(options),
  );
}

function callOptions({ timeoutMs = 30_000, signal }: AskOptions): CallOptions {
  return { timeoutMs, signal };
}

function candidates(criuPath: string | undefined): Candidate[] {
  if (criuPath !== undefined) return [{ path: resolve(criuPath), from: 'option' }];
  const fromEnvironment = process.env.STILLFRAME_CRIU;
  const found: Candidate[] =
    fromEnvironment === undefined || fromEnvironment === ''
      ? []
      : [{ path: resolve(fromEnvironment), from: 'environment' }];
  const onPath = (process.env.PATH ?? '')
    .split(delimiter)
    .filter((dir) => dir !== '')
    .map((dir) => join(dir, 'criu'))
    .find(isExecutable);
  if (onPath !== undefined) found.push({ path: onPath, from: 'PATH' });
  const own = ownCriuPaths.find(isExecutable);
  if (own !== undefined) found.push({ path: own, from: 'private' });
  return found;
}
