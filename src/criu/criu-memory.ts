/**
 * What has answered VERSION and CHECK on this machine, for the processes that come after this one: the two questions
 * take longer than the restore of a small tree. It is believed only for the same file, kernel, boot and privileges, and
 * only where nobody else can have written it. Everything here may fail without harm: CRIU is asked then.
 */
import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { pathOfFd } from '../openat.js';
import { bootId } from '../proc/identity.js';
import { isOurs } from '../safe-path.js';
import { openTrusted } from '../trusted-directory.js';

export interface KnownVersion {
  version: string;
  versionNumber: number;
}

const FILE = 'criu.json';
const FRESH = 'criu.json.fresh';
const FORMAT = 1;
const MAX_BYTES = 64 * 1024;
/** Each binary, and each set of privileges and namespaces that it was asked with, has one. */
const MAX_ENTRIES = 16;

type Entries = Record<string, KnownVersion>;

/** @param fileKey Says which file it is. */
export async function recallCriu(stateDir: string, fileKey: string): Promise<KnownVersion | undefined> {
  const entries = await inStateDir(stateDir, readEntries);
  return entries?.[circumstances(fileKey)];
}

export async function rememberCriu(stateDir: string, fileKey: string, known: KnownVersion): Promise<void> {
  const key = circumstances(fileKey);
  try {
    mkdirSync(stateDir, { mode: 0o700 }); // as a journal makes it
  } catch {
    // it is there, or cannot be made
  }
  await inStateDir(stateDir, (dir) => {
    const others = Object.entries(readEntries(dir)).filter(([other]) => other !== key);
    const { version, versionNumber } = known;
    const entries = Object.fromEntries([...others.slice(1 - MAX_ENTRIES), [key, { version, versionNumber }]]);
    // Two that write at the same time can at worst make what is no JSON, and is not believed.
    writeFileSync(join(dir, FRESH), JSON.stringify({ format: FORMAT, entries }), { mode: 0o600 });
    renameSync(join(dir, FRESH), join(dir, FILE));
  });
}

/** All of it: what has made one wrong may have made others wrong, too. */
export async function forgetCriu(stateDir: string): Promise<void> {
  await inStateDir(stateDir, (dir) => rmSync(join(dir, FILE), { force: true }));
}

/** What CRIU's answer depends on beside its own file: what the kernel can do, and what it lets this process do. */
function circumstances(fileKey: string): string {
  const status = readFileSync('/proc/self/status', 'latin1');
  return [
    fileKey,
    release(),
    bootId(),
    ...['CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp'].map(
      (name) => new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1],
    ),
    ...['user', 'mnt', 'pid'].map((name) => readlinkSync(`/proc/self/ns/${name}`)),
  ].join(' ');
}

function readEntries(dir: string): Entries {
  let fd: number | undefined;
  try {
    fd = openSync(join(dir, FILE), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile() || !isOurs(stat.uid) || (stat.mode & 0o077) !== 0 || stat.size > MAX_BYTES) return {};
    const found = JSON.parse(readFileSync(fd, 'utf8')) as { format?: unknown; entries?: unknown } | null;
    if (found?.format !== FORMAT || typeof found.entries !== 'object' || found.entries === null) return {};
    return Object.fromEntries(
      Object.entries(found.entries).filter((entry): entry is [string, KnownVersion] => isKnown(entry[1])),
    );
  } catch {
    return {}; // there is none, or none that can be read
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function isKnown(value: unknown): value is KnownVersion {
  const { version, versionNumber } = (value ?? {}) as Partial<Record<keyof KnownVersion, unknown>>;
  return typeof version === 'string' && Number.isSafeInteger(versionNumber);
}

/** Acts on the directory, which is held open meanwhile; does nothing where that cannot be trusted. */
async function inStateDir<T>(stateDir: string, act: (dir: string) => T): Promise<T | undefined> {
  try {
    const { fd } = await openTrusted(stateDir);
    try {
      return act(pathOfFd(fd));
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}
