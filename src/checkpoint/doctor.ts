import { closeSync, constants, copyFileSync, readFileSync, statfsSync, writeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { arch, release, tmpdir } from 'node:os';
import { openNameless } from '../archive/index.js';
import { freezerVersions, hierarchyRoot } from '../cgroup/index.js';
import { findHelperTar, listCriu, OLDEST_CRIU, type CriuVerdict } from '../criu/index.js';
import type { OptionNames } from '../bad-option.js';
import { findCommand } from '../find-command.js';
import { compileCommand } from '../installed.js';
import { native } from '../native.js';
import { openTrusted, UntrustedDirectoryError } from '../trusted-directory.js';
import { optional, requirePath } from './base/check-option.js';
import { isTmpfs } from './dump/tmpfs.js';
import { beforeCriu42, thisMachine } from './older-criu.js';
import { refuseUnknown } from './option-names.js';

/** One thing that was looked at. `problem`: Stillframe cannot work; `note`: it works, less well. */
export interface Finding {
  subject: string;
  verdict: 'ok' | 'note' | 'problem';
  what: string;
  /** What to do about a note or a problem; '' for `ok`. */
  remedy: string;
}

export interface Diagnosis {
  /** No finding is a problem. */
  usable: boolean;
  kernel: { release: string; arch: string };
  freezers: { version: 1 | 2; root: string | undefined }[];
  criu: CriuVerdict[];
  findings: Finding[];
}

export interface DiagnoseOptions {
  /** The only CRIU that is asked. Default: each that `findCriu` would ask. */
  criuPath?: string | undefined;
  /** Where memory images are to go. Default: the system's temporary directory. */
  workDir?: string | undefined;
}

const OPTIONS: OptionNames<DiagnoseOptions> = { criuPath: true, workDir: true };

/**
 * Looks at everything that a checkpoint needs of this machine. Leaves nothing behind; takes a CRIU start per candidate.
 * @throws CheckpointError BAD_OPTION
 */
export async function diagnose(options: DiagnoseOptions = {}): Promise<Diagnosis> {
  refuseUnknown(options, OPTIONS);
  for (const option of ['criuPath', 'workDir'] as const) optional(option, options[option], requirePath);
  const criu = await listCriu(options.criuPath === undefined ? {} : { criuPath: options.criuPath });
  const freezers = freezerVersions().map((version) => ({ version, root: hierarchyRoot(version) }));
  const findings = [
    nodeFinding(),
    nativeFinding(),
    kernelFinding(),
    ...freezerFindings(freezers),
    privilegeFinding(),
    ...criuFindings(criu),
    ...toolFindings(),
    helperFinding(),
    runFinding(),
    await workDirFinding(options.workDir ?? tmpdir()),
  ];
  return {
    usable: findings.every(({ verdict }) => verdict !== 'problem'),
    kernel: { release: release(), arch: arch() },
    freezers,
    criu,
    findings,
  };
}

const ok = (subject: string, what: string): Finding => ({ subject, verdict: 'ok', what, remedy: '' });

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return ok('Node.js', process.versions.node);
  return {
    subject: 'Node.js',
    verdict: 'problem',
    what: `${process.versions.node} is too old`,
    remedy: 'Install Node.js 20.19 or newer.',
  };
}

function nativeFinding(): Finding {
  try {
    native();
    return ok('native part', 'loaded');
  } catch (error) {
    return {
      subject: 'native part',
      verdict: 'problem',
      what: (error as Error).message.split('\n')[0] ?? '',
      remedy: `Compile it, with gcc and libc's headers at hand: ${compileCommand}`,
    };
  }
}

function kernelFinding(): Finding {
  return ok('kernel', `${release()} ${arch()}`);
}

function freezerFindings(freezers: Diagnosis['freezers']): Finding[] {
  if (freezers.length === 0) {
    return [
      {
        subject: 'freezer',
        verdict: 'problem',
        what: 'no cgroup file system with a freezer is mounted',
        remedy: 'Mount one: mount -t cgroup2 none /sys/fs/cgroup',
      },
    ];
  }
  return freezers.map(({ version, root }) =>
    ok(`freezer v${version}`, root ?? 'mounted, its root not visible from here'),
  );
}

// linux/capability.h
const CAPABILITIES = {
  CAP_DAC_OVERRIDE: 1,
  CAP_KILL: 5,
  CAP_SYS_PTRACE: 19,
  CAP_SYS_ADMIN: 21,
  CAP_SYS_RESOURCE: 24,
} as const;

function privilegeFinding(): Finding {
  const subject = 'privileges';
  if (process.geteuid?.() !== 0)
    return {
      subject,
      verdict: 'problem',
      what: `running as uid ${process.geteuid?.()}`,
      remedy: 'Run it as root: sudo stillframe ...',
    };
  const effective = BigInt(
    `0x${/^CapEff:\s+([0-9a-f]+)/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'}`,
  );
  const missing = Object.entries(CAPABILITIES)
    .filter(([, bit]) => ((effective >> BigInt(bit)) & 1n) === 0n)
    .map(([name]) => name);
  if (missing.length === 0) return ok(subject, 'root, with all capabilities that CRIU uses');
  if (missing.length === 1 && missing[0] === 'CAP_SYS_RESOURCE') {
    return {
      subject,
      verdict: 'note',
      what: 'root without CAP_SYS_RESOURCE: trees that run as another user are refused, and those with very many open files may be',
      remedy:
        'Run it where this capability is granted (a container has to be given it), or checkpoint trees of root only.',
    };
  }
  return {
    subject,
    verdict: 'problem',
    what: `root without ${missing.join(', ')}`,
    remedy: 'Run it where these capabilities are granted (not in an unprivileged container).',
  };
}

function criuFindings(verdicts: CriuVerdict[]): Finding[] {
  const anyUsable = verdicts.some(({ usable }) => usable);
  if (verdicts.length === 0)
    return [
      {
        subject: 'CRIU',
        verdict: 'problem',
        what: 'none found',
        remedy: `Fetch one with: stillframe install-criu; or install CRIU ${OLDEST_CRIU.text} or newer, or set STILLFRAME_CRIU to its path.`,
      },
    ];
  return verdicts.map((verdict) => {
    const subject = `CRIU (${verdict.from})`;
    if (!verdict.usable) {
      const version = verdict.version === undefined ? '' : `${verdict.version}, `;
      return {
        subject,
        verdict: anyUsable ? 'note' : 'problem',
        what: `${version}${verdict.path}: ${verdict.error.message.split('\n')[0] ?? ''}`,
        remedy: verdict.error.remedy,
      };
    }
    const problems = verdict.versionNumber < 40200 ? beforeCriu42(thisMachine()) : [];
    if (problems.length > 0)
      return {
        subject,
        verdict: 'note',
        what: `${verdict.version}, ${verdict.path}: on this machine CRIU before 4.2 ${problems.map(({ what }) => what).join('; and it ')}`,
        remedy: [
          'Take CRIU 4.2 or newer: stillframe install-criu, or set STILLFRAME_CRIU to one.',
          ...problems.map(({ remedy }) => remedy).filter((remedy) => remedy !== ''),
        ].join(' '),
      };
    const { memTrack, lazyPages, memCompression } = verdict.features;
    const compression = memCompression === undefined ? '' : `; compressed memory images: ${yes(memCompression)}`;
    return ok(
      subject,
      `${verdict.version}, ${verdict.path}; dirty tracking (iterative pre-dump): ${yes(memTrack)}; lazy pages: ${yes(lazyPages)}${compression}`,
    );
  });
}

const yes = (value: boolean | undefined): string => (value === true ? 'yes' : 'no');

/** Programs that CRIU starts, and for what. Source: criu/net.c, criu/mount.c, CRIU v4.2. */
const TOOLS = [
  ['ip', 'trees with a network namespace of their own cannot be dumped or restored', 'iproute2'],
  ['tar', 'trees with a tmpfs of their own cannot be restored', 'tar'],
] as const;

function toolFindings(): Finding[] {
  return TOOLS.map(([tool, without, debianPackage]) =>
    findCommand(tool).problem === undefined
      ? ok(tool, 'found')
      : {
          subject: tool,
          verdict: 'note',
          what: `not on PATH: ${without}`,
          remedy: `Install it (Debian: apt-get install ${debianPackage}).`,
        },
  );
}

/** What CRIU starts inside the frozen window, for each tmpfs of a container. */
function helperFinding(): Finding {
  const subject = "CRIU's tar";
  const path = findHelperTar();
  if (path !== undefined) return ok(subject, path);
  return {
    subject,
    verdict: 'note',
    what: "Stillframe's own is not built: CRIU archives each tmpfs of a container by the system's, and the window is longer",
    remedy: `Compile it: ${compileCommand}`,
  };
}

/** CRIU keeps what it learned of the kernel in /run, but only on a tmpfs. Source: criu/kerndat.c, CRIU v4.2. */
function runFinding(): Finding {
  if (isTmpfs(statfsSync('/run'))) return ok('/run', 'a tmpfs: CRIU keeps its knowledge of the kernel there');
  return {
    subject: '/run',
    verdict: 'note',
    what: 'no tmpfs: CRIU probes the kernel anew at each start (30 to 60 ms, outside the frozen window)',
    remedy: 'Mount a tmpfs on /run.',
  };
}

async function workDirFinding(dir: string): Promise<Finding> {
  const subject = `work directory ${dir}`;
  try {
    const { bavail, bsize } = statfsSync(dir);
    const free = `${Math.floor((bavail * bsize) / 2 ** 20)} MiB free`;
    const facts = `${free}; ${await filesIn(dir)}`;
    const unsafe = await whyUnsafe(dir);
    if (unsafe === undefined) return ok(subject, facts);
    return {
      subject,
      verdict: 'note',
      what: `${facts}; memory images are not put there: ${unsafe}`,
      remedy: 'Name one with --work-dir that only root can write to, on all the way from /.',
    };
  } catch (error) {
    return { subject, verdict: 'problem', what: (error as Error).message, remedy: 'Name a directory that exists.' };
  }
}

/** Undefined when nobody else can rename what is made there. */
async function whyUnsafe(dir: string): Promise<string | undefined> {
  try {
    closeSync((await openTrusted(dir)).fd);
    return undefined;
  } catch (error) {
    if (error instanceof UntrustedDirectoryError) return error.message;
    throw error;
  }
}

async function filesIn(dir: string): Promise<string> {
  const from = await openNameless(dir).catch(() => undefined);
  const to = await openNameless(dir).catch(() => undefined);
  try {
    const canClone = from !== undefined && to !== undefined && canReflink(from, to);
    return `nameless files: ${yes(from !== undefined)}; copies by reference: ${yes(canClone)}`;
  } finally {
    await from?.close();
    await to?.close();
  }
}

/** Tried, not guessed: a clone of a small file. */
function canReflink(from: FileHandle, to: FileHandle): boolean {
  try {
    writeSync(from.fd, Buffer.alloc(4096, 1));
    const [source, target] = [from, to].map(({ fd }) => `/proc/self/fd/${fd}`);
    copyFileSync(source as string, target as string, constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    return false;
  }
}
