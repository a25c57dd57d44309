import { Option, type Command } from 'commander';
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
