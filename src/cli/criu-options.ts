import { InvalidArgumentError, Option, type Command } from 'commander';
import { parseCriuOptions, type CriuOptions } from '../index.js';
import { byteCount, collect } from './arguments.js';

/** What commander hands over for the flags below. */
export interface CriuFlags {
  tcpEstablished?: boolean;
  tcpClose?: boolean;
  tcpSkipInFlight?: boolean;
  extUnixSk?: boolean;
  external?: string[];
  linkRemap?: boolean;
  ghostLimit?: number;
  networkLock?: 'iptables' | 'nftables' | 'skip';
  criu?: string[];
}

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

/** The options of CRIU that people need most, for a dump. */
export function addDumpFlags(command: Command): Command {
  return addCriuFlag(
    command
      .option('--tcp-established', 'checkpoint established TCP connections too')
      .option('--tcp-close', 'checkpoint TCP connections as closed')
      .option('--tcp-skip-in-flight', 'leave out TCP connections that are still being established')
      .option('--ext-unix-sk', 'checkpoint unix sockets whose other end is outside the tree and has a name')
      .option(
        '--external <what>',
        "a resource outside the tree, in CRIU's notation, such as unix[INODE]; may be repeated",
        collect,
      )
      .option('--link-remap', 'checkpoint open files whose name was deleted while other names remain')
      .option('--ghost-limit <bytes>', 'the largest deleted open file to include (default 256M)', byteCount)
      .addOption(
        new Option('--network-lock <how>', 'how CRIU blocks network traffic of TCP connections').choices([
          'iptables',
          'nftables',
          'skip',
        ]),
      ),
  );
}

/** Those for a restore; what the dump was made with is repeated by itself. */
export function addRestoreFlags(command: Command): Command {
  return addCriuFlag(
    command
      .option('--tcp-close', 'close the TCP connections of the checkpoint')
      .option('--external <what>', "a resource outside the tree, in CRIU's notation; may be repeated", collect),
  );
}

function addCriuFlag(command: Command): Command {
  return command.option('--criu <name=value>', 'any other CRIU option, such as ext-masters; may be repeated', collect);
}

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
