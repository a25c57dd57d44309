import { InvalidArgumentError } from 'commander';
import { parseCriuOptions, type CriuOptions } from '../index.js';
import type { CriuFlags } from './criu-flags.js';

/** Stillframe decides these by itself: a value of the user's would be lost. */
const OURS = [
  'imagesDir',
  'workDir',
  'logFile',
  'leaveRunning',
  'leaveStopped',
  'freezeCgroup',
  'parentImg',
  'trackMem',
];

/** @throws InvalidArgumentError for options that the command decides itself; CriuError for those that there are not */
export function criuOptions({ criu, ...flags }: CriuFlags): CriuOptions {
  const any = parseCriuOptions(criu ?? []);
  const ours = Object.keys(any).filter((name) => OURS.includes(name));
  if (ours.length > 0) throw new InvalidArgumentError(`--criu ${ours.join(', ')}: stillframe sets this itself.`);
  return { ...any, ...flags, ...both(any.external, flags.external) };
}

function both(a: readonly string[] = [], b: readonly string[] = []): Pick<CriuOptions, 'external'> {
  return a.length + b.length === 0 ? {} : { external: [...a, ...b] };
}

/** These flags among all that a command was given. */
export function criuFlags(options: CriuFlags): CriuFlags {
  const { tcpEstablished, tcpClose, tcpSkipInFlight, extUnixSk, external, linkRemap, ghostLimit, networkLock, criu } =
    options;
  const flags = {
    tcpEstablished,
    tcpClose,
    tcpSkipInFlight,
    extUnixSk,
    external,
    linkRemap,
    ghostLimit,
    networkLock,
    criu,
  };
  return Object.fromEntries(Object.entries(flags).filter(([, value]) => value !== undefined)) as CriuFlags;
}
