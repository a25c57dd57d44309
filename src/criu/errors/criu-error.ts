import { OLDEST_CRIU } from '../oldest.js';
import { constants } from 'node:os';
import { errnoOf, StillframeError, type ErrorTexts, type FactsOf } from '../../errors.js';
import { knownFailure, remedyOf, type CriuProblem } from './known-failures.js';
import { isHarmless, parseLogLine, withoutNuls } from './log-line.js';

/** A CRIU that has been asked for something, and how that ended: as much as is known. */
export interface SessionFacts {
  /** The program that was to be started, or was. */
  criuPath?: string;
  /** CRIU's own, once it has been asked for. */
  version?: string;
  /** The RPC request that failed: "DUMP". */
  request?: string;
  /** CRIU's `cr_errno`, positive, and its name ("ESRCH"). */
  crErrno?: number;
  crErrnoName?: string;
  /** CRIU's `cr_errmsg`: the first line it logged as an error. */
  crErrmsg?: string;
  /** Where CRIU logs this request. */
  logPath?: string;
  /** The last error lines of that log, oldest first. */
  logErrors?: string[];
  /**
   * What went wrong, when CRIU's words are of those that are known: chooses the remedy. A guess by text, not a code.
   */
  problem?: CriuProblem;
  /** How the process of CRIU ended. */
  exitCode?: number;
  exitSignal?: NodeJS.Signals;
  /** The last of what CRIU wrote to stderr. */
  stderr?: string;
}

/** A program that was tried, and what was wrong with it. */
export interface TriedCriu {
  path: string;
  problem: CriuError;
}

/** What is known when each code comes. */
export interface CriuFacts {
  /** A program, a `criu service`, or every program that was tried. */
  CRIU_NOT_FOUND: { criuPath?: string; socketPath?: string; tried?: TriedCriu[] };
  CRIU_UNUSABLE: SessionFacts & { tried?: TriedCriu[] };
  /** `since`: the first version that would do. */
  CRIU_TOO_OLD: { criuPath: string; version: string; since: string };
  CRIU_OPTION_UNSUPPORTED: { option: string; version: string; since: string };
  BAD_OPTION: { option: string; reason: string };
  /** `feature`: by its name in `CriuFeatures`. */
  CRIU_FEATURE_MISSING: { request: string; feature: string; problem: CriuProblem };
  CRIU_BUSY: SessionFacts & { request: string };
  CRIU_SESSION_ENDED: SessionFacts & { request: string };
  CRIU_PRE_DUMPING: SessionFacts & { request: string };
  /** `unixPeers`: of the problem `unix-external`, the connections that lead out of the tree. */
  CRIU_REQUEST_FAILED: SessionFacts & { unixPeers?: UnixPeer[] };
  /** The notification that was refused, and the root that was restored nevertheless. */
  CRIU_WENT_ON: SessionFacts & { script?: string; restoredPid?: number };
  CRIU_DIED: SessionFacts;
  /** `option`, `reason`: what could not be opened for it. */
  CRIU_IO: SessionFacts & { option?: string; reason?: string };
  CRIU_PROTOCOL: SessionFacts & { reason?: string };
  CRIU_TIMEOUT: SessionFacts & { timeoutMs: number };
  CRIU_ABORTED: SessionFacts;
  /** The file. */
  CRIU_IMAGE: { path: string; reason?: string };
}

export type CriuErrorCode = keyof CriuFacts;

/** A unix socket of the tree whose other end is outside. */
export interface UnixPeer {
  pid: number;
  name: string;
  /** The two ends, by their inode numbers: the one of the tree is what "unix[INODE]" names. */
  inode: number;
  peerInode: number;
  /** The name that the other end is bound to, if it has one. */
  path?: string;
  /** Who has the other end open; none when that cannot be seen from here. */
  holders: { pid: number; name: string }[];
}

/** Every failure of CRIU, of talking to it, and of reading what it wrote. */
export class CriuError<C extends CriuErrorCode = CriuErrorCode> extends StillframeError<C, FactsOf<CriuFacts, C>> {
  override readonly name = 'CriuError';
  constructor(code: C, facts: CriuFacts[C] & { cause?: unknown }) {
    const known = withProblem(code, cleaned(facts));
    super(code, texts[code](known), known);
  }
}

/** "ESRCH" for 3. CRIU uses names that libuv does not know (EBADRQC), so the table is the system's. */
export function errnoName(errno: number): string | undefined {
  if (errno === 56) return 'EBADRQC';
  return Object.entries(constants.errno).find(([, value]) => value === errno)?.[0];
}

const texts: ErrorTexts<CriuFacts> = {
  CRIU_NOT_FOUND: (f) =>
    f.socketPath === undefined
      ? {
          what: `no CRIU found${list(f.tried) || nowhere(f)}`,
          remedy:
            `Fetch one with: stillframe install-criu; or install CRIU ${OLDEST_CRIU.text} or newer, or set ` +
            'STILLFRAME_CRIU to its path.',
        }
      : {
          what: `no CRIU service listens at ${f.socketPath}`,
          remedy: 'Check that `criu service --address PATH` runs with this path, and that this user may connect to it.',
        },
  CRIU_UNUSABLE: (f) => ({
    what:
      f.tried === undefined
        ? `CRIU ${f.version ?? ''} at ${f.criuPath ?? 'criu'} does not work on this system${detail(f)}`
        : `no CRIU works on this system${list(f.tried)}`,
    remedy:
      firstKnown(f.tried)?.remedy ??
      (f.problem === undefined
        ? 'Install a newer CRIU and set STILLFRAME_CRIU to its path; CRIU has to run as root.'
        : knownRemedy(f)),
  }),
  CRIU_TOO_OLD: (f) => ({
    what: `${f.criuPath} is version ${f.version}, too old for this library`,
    remedy: `Use CRIU ${f.since} or newer: set STILLFRAME_CRIU to its path.`,
  }),
  CRIU_OPTION_UNSUPPORTED: (f) => ({
    what: `CRIU ${f.version} does not know the option \`${f.option}\``,
    remedy: `Leave it out, or use CRIU ${f.since} or newer.`,
  }),
  BAD_OPTION: (f) => ({ what: `option \`${f.option}\`: ${f.reason}`, remedy: '' }),
  CRIU_FEATURE_MISSING: (f) => ({
    what: `${f.request} needs ${f.feature}, which this kernel or this CRIU lacks`,
    remedy: remedyOf(f.problem),
  }),
  CRIU_BUSY: (f) => ({
    what: `${f.request} while this CRIU client is busy with another`,
    remedy: 'Wait for it, or use one client per request.',
  }),
  CRIU_SESSION_ENDED: (f) => ({
    what: `${f.request} to a CRIU client whose session has ended`,
    remedy: 'Start another client: after CHECK, DUMP or RESTORE, or after a failure, CRIU ends the session.',
  }),
  CRIU_PRE_DUMPING: (f) => ({
    what: `${f.request} to a CRIU client between pre-dumps`,
    remedy: 'After preDump() call preDump() or dump(); for a single pre-dump use singlePreDump().',
  }),
  CRIU_REQUEST_FAILED: (f) => ({
    what:
      `CRIU${f.version === undefined ? '' : ` ${f.version}`} refused ` +
      `${f.request ?? 'the request'}${detail(f)}${peersText(f)}`,
    remedy: knownRemedy(f),
    details: logDetails(f),
  }),
  CRIU_WENT_ON: (f) => ({
    what: `CRIU completed ${f.request ?? 'the request'} although ${f.script ?? 'a notification'} was refused`,
    remedy: f.restoredPid === undefined ? '' : 'The restored tree has been killed.',
  }),
  CRIU_DIED: (f) => ({
    what: `CRIU ended ${ending(f)}during ${f.request ?? 'the session'}${detail(f)}`,
    remedy: (f.problem === undefined ? '' : knownRemedy(f)) || (f.logPath === undefined ? unexplained(f) : ''),
    ...(f.logPath === undefined ? {} : { details: `Its log: ${f.logPath}` }),
  }),
  CRIU_IO: (f) => ({
    what:
      f.option !== undefined
        ? `option \`${f.option}\`: ${f.reason ?? ''}`
        : f.request === undefined
          ? `${f.criuPath ?? 'CRIU'} could not be started`
          : `${f.request} was aborted: this process could not continue talking to CRIU`,
    remedy: shortageRemedy(f),
  }),
  CRIU_PROTOCOL: (f) => ({
    what:
      `the answer of ${f.criuPath ?? 'CRIU'} is not CRIU's protocol` +
      (f.request === undefined ? '' : ` (during ${f.request})`) +
      (f.reason === undefined ? '' : `: ${f.reason}`),
    remedy: 'Check that this path really is CRIU.',
  }),
  CRIU_TIMEOUT: (f) => ({
    what:
      `CRIU has not finished ${f.request ?? 'the request'} after ${f.timeoutMs} ms; the session was closed and ` +
      `${undoing(f)}${detail({ ...f, logErrors: (f.logErrors ?? []).filter((line) => !byUs.test(line)) })}`,
    remedy: "Raise `timeoutMs`, or see in CRIU's log where it waits.",
  }),
  CRIU_ABORTED: (f) => ({
    what: `${f.request ?? 'request'} was cancelled; the session was closed and ${undoing(f)}`,
    remedy: '',
  }),
  CRIU_IMAGE: (f) => ({
    what: `CRIU image ${f.path} cannot be read${f.reason === undefined ? '' : `: ${f.reason}`}`,
    remedy: '',
  }),
};

function nowhere({ criuPath }: CriuFacts['CRIU_NOT_FOUND']): string {
  return criuPath === undefined ? ': neither STILLFRAME_CRIU nor PATH leads to one' : ` at ${criuPath}`;
}

const SHORTAGES: Readonly<Record<string, string>> = {
  EMFILE: "Raise this process's limit of open files (ulimit -n).",
  ENFILE: "Raise the system's limit of open files (fs.file-max).",
  EAGAIN: 'Raise the limit of processes (ulimit -u, or pids.max of the cgroup).',
  ENOMEM: 'Free memory, or raise the memory limit of the cgroup.',
  EACCES: 'Set TMPDIR to a directory that can be written.',
  EMSGSIZE: 'Name fewer `external` resources, or raise net.core.wmem_default.',
};

/** What to do about the system's error that is the cause. */
function shortageRemedy({ cause }: { cause?: unknown }): string {
  return SHORTAGES[errnoOf(cause) ?? ''] ?? '';
}

function list(tried: readonly TriedCriu[] | undefined): string {
  if (tried === undefined || tried.length === 0) return '';
  // The remedy that is that of all is said once, at the end.
  const text = (problem: CriuError): string =>
    problem === firstKnown(tried) ? problem.message.replace(`\n${problem.remedy}`, '') : problem.message;
  return `:${tried.map(({ path, problem }) => `\n  ${path}: ${text(problem).replaceAll('\n', '\n    ')}`).join('')}`;
}

/**
 * Of programs that do not work the first whose reason is known: it is mostly that of the others too (a configuration
 * file, no root).
 */
function firstKnown(tried: readonly TriedCriu[] | undefined): CriuError | undefined {
  return tried?.find(({ problem }) => problem.facts.problem !== undefined && problem.remedy !== '')?.problem;
}

function ending({ exitCode, exitSignal }: SessionFacts): string {
  if (exitSignal !== undefined) return `(killed by ${exitSignal}) `;
  return exitCode === undefined ? '' : `(exit status ${exitCode}) `;
}

/** One that ends before its first answer, and says nothing, is perhaps none. */
function unexplained({ criuPath, exitCode, version, stderr = '' }: SessionFacts): string {
  return exitCode !== undefined && version === undefined && stderr === ''
    ? `Is ${criuPath ?? 'it'} really CRIU?`
    : 'Look in the system log for who ended it: out of memory, a service manager?';
}

function undoing({ exitSignal }: SessionFacts): string {
  return exitSignal === undefined
    ? 'CRIU undid its work'
    : `CRIU was killed by ${exitSignal} before it had undone its work`;
}

/** What CRIU says when we close the session in the middle: no reason, but our own doing. */
const byUs = /action scripts failed|Can't (?:send|receive) (?:response|request)/;

function peersText({ unixPeers = [] }: CriuFacts['CRIU_REQUEST_FAILED']): string {
  if (unixPeers.length === 0) return '';
  const shown = unixPeers.slice(0, 5).map(({ pid, name, inode, peerInode, path, holders }) => {
    const who = holders.map((holder) => `process ${holder.pid} (${holder.name})`).join(' and ');
    return (
      `socket ${inode} of process ${pid} (${name}) leads to ` +
      `${who || `socket ${peerInode}`}${path === undefined ? '' : ` at ${path}`}`
    );
  });
  return `; ${shown.join(', ')}${unixPeers.length > 5 ? `, and ${unixPeers.length - 5} more` : ''}`;
}

/** The best of what CRIU said, as the end of a sentence. Its errors cascade: the first one is the cause of the rest. */
function detail(f: SessionFacts): string {
  const said = [f.crErrmsg?.trim(), ...(f.logErrors ?? []), ...fromStderr(f.stderr)].find(
    (text) => text !== undefined && !isHarmless(text),
  );
  const errno = f.crErrnoName ?? (f.crErrno === undefined ? undefined : `errno ${f.crErrno}`);
  const parts = [errno, said === '' ? undefined : said].filter((part) => part !== undefined);
  return parts.length === 0 ? '' : `: ${parts.join(', ')}`;
}

/**
 * Before CRIU has a log, its errors are there; what is none of them (of getopt, of the dynamic linker) ends in what
 * matters.
 */
function fromStderr(stderr = ''): string[] {
  const lines = stderr.trim().split('\n');
  return [
    ...lines
      .map(parseLogLine)
      .filter(({ level }) => level === 'error')
      .map(({ text }) => text),
    lines.at(-1) ?? '',
  ];
}

function logDetails({ logPath, logErrors = [] }: SessionFacts): string {
  return [...(logPath === undefined ? [] : [`The log: ${logPath}`]), ...logErrors.map((line) => `  ${line}`)].join(
    '\n',
  );
}

function knownRemedy(f: SessionFacts): string {
  const known = knownFailure(said(f));
  if (known !== undefined) return known.remedy;
  if (f.problem !== undefined) return remedyOf(f.problem);
  return f.crErrnoName === 'ESRCH'
    ? 'There is no such process.'
    : f.crErrnoName === 'EEXIST'
      ? 'A pid of the tree is taken: wait until its holder has ended and been reaped.'
      : '';
}

/** All that CRIU said of its failure, the oldest first. */
function said({ crErrmsg, logErrors = [], stderr }: SessionFacts): string[] {
  return [crErrmsg ?? '', ...logErrors, ...(stderr ?? '').split('\n')].filter(
    (line) => line !== '' && !isHarmless(line),
  );
}

/** Without what CRIU says every time, and means nothing. */
function cleaned<F extends object>(facts: F): F {
  const { stderr, crErrmsg, logErrors, ...rest }: SessionFacts = facts;
  return {
    ...rest,
    ...(stderr === undefined ? {} : { stderr: withoutNuls(stderr) }),
    ...(crErrmsg === undefined || isHarmless(crErrmsg) ? {} : { crErrmsg }),
    ...(logErrors === undefined ? {} : { logErrors: logErrors.filter((line) => !isHarmless(line)) }),
  } as F;
}

/** With what went wrong, where CRIU's words say it. */
function withProblem<F extends object>(code: CriuErrorCode, facts: F): F {
  const known: CriuFacts['CRIU_UNUSABLE'] = facts;
  // One that was killed may have said something too: it is not why it ended.
  const isExplained =
    code === 'CRIU_REQUEST_FAILED' ||
    code === 'CRIU_UNUSABLE' ||
    (code === 'CRIU_DIED' && known.exitCode !== undefined);
  if (!isExplained) return facts;
  const problem = known.problem ?? firstKnown(known.tried)?.facts.problem ?? knownFailure(said(known))?.problem;
  return problem === undefined ? facts : { ...facts, problem };
}
