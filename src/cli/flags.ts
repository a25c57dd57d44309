import type { Command } from 'commander';
import { isCriuOption } from '../index.js';

/** Options of the library whose flags do not follow from their names; the first that a command has is the one. */
const OTHERWISE: Readonly<Record<string, readonly string[]>> = {
  timeoutMs: ['--freeze-timeout', '--pid-timeout'],
  watchFromMs: ['--no-watch'],
  cgroupVersion: ['--freezer'],
  containers: ['--runc, --crun, --podman'],
  outputDir: ['--output'],
  replaceFiles: ['--replace'],
  replaceAddresses: ['--replace-address'],
  logPath: ['--log'],
};

/** Options that the command has in another form than a flag. */
const WORDS: Readonly<Record<string, string>> = {
  terminal: 'stdin',
  archive: 'the archive',
  directory: 'the directory',
  command: 'the program',
};

/**
 * A message of the library, which names its options in backticks (`maxFrozenMs`, `adopt: true`), in the words of a
 * command: the flag of the same meaning, or `--criu NAME` for an option of CRIU that has none of its own.
 */
export function inFlags(text: string, command: Command): string {
  return text.replace(
    /`([a-zA-Z]+)(?:\[\](?:\.(\w+))?|\[[^\]`]*\])?(?:: ([^`]+))?`/g,
    (whole, name: string, part?: string, value?: string) => {
      // Of a list's parts some have flags of their own: `files[].exclude`; `--name` is that of a program.
      const flag = (part === undefined || part === 'name' ? undefined : flagOf(part, command)) ?? flagOf(name, command);
      if (flag !== undefined) return value === undefined || isSwitch(flag, command) ? flag : `${flag} ${plain(value)}`;
      if (!isCriuOption(name) || !has(command, '--criu')) return WORDS[name] ?? whole;
      return `--criu ${name}${value === undefined || value === 'true' ? '' : `=${plain(value)}`}`;
    },
  );
}

function flagOf(name: string, command: Command): string | undefined {
  const regular = `--${name.replace(/Ms$/, '').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
  return [regular, ...(OTHERWISE[name] ?? [])].find((flag) => flag.split(', ').every((each) => has(command, each)));
}

function has(command: Command, flag: string): boolean {
  return command.options.some(({ long }) => long === flag);
}

/** A flag that takes no value says all by itself. */
function isSwitch(flag: string, command: Command): boolean {
  const option = command.options.find(({ long }) => long === flag);
  return option !== undefined && !option.required && !option.optional;
}

/** `'nftables'` and `['net']` as one types them. */
function plain(value: string): string {
  return value.replace(/^[['"]+|[\]'"]+$/g, '');
}
