import type { Command } from 'commander';

/** The manual page of a program with commands, in man(7)'s macros, made of their own definitions. */
export function manPage(program: Command, date: string): string {
  const name = program.name();
  return [
    `.TH ${name.toUpperCase()} 8 ${quoted(date)} ${quoted(`${name} ${program.version()}`)}`,
    '.SH NAME',
    `${name} \\- ${roff(withoutStop(program.description()))}`,
    '.SH SYNOPSIS',
    ...program.commands.flatMap((command, i) => [
      ...(i === 0 ? [] : ['.br']),
      `.B ${name} ${roff(command.name())}`,
      usage(command),
    ]),
    '.SH DESCRIPTION',
    roff(program.description()),
    '.SH COMMANDS',
    ...program.commands.flatMap((command) => section(name, command)),
    ...after(program),
    '.SH SEE ALSO',
    '.BR criu (8),',
    '.BR cgroups (7)',
    '',
  ].join('\n');
}

function section(program: string, command: Command): string[] {
  return [
    `.SS ${roff(`${program} ${command.name()}`)}`,
    roff(command.description()),
    ...command.registeredArguments.flatMap((argument) => [
      '.TP',
      `.I ${roff(argument.name())}`,
      roff(argument.description),
    ]),
    ...command.options.flatMap((option) => [
      '.TP',
      `.B ${roff(option.flags)}`,
      roff(option.description + (option.argChoices === undefined ? '' : ` (${option.argChoices.join(', ')})`)),
    ]),
    ...after(command),
  ];
}

/** What a command's help says after its options: examples keep their lines. */
function after(command: Command): string[] {
  const written: string[] = [];
  command.configureOutput({ writeOut: (text) => written.push(text) }).outputHelp();
  // The first is what has been said above.
  const lines = written.slice(1).join('').trim().split('\n');
  return lines[0] === '' ? [] : ['.PP', '.nf', ...lines.map(roff), '.fi'];
}

function usage(command: Command): string {
  const words = [
    ...(command.options.length > 0 ? ['[options]'] : []),
    ...command.registeredArguments.map((argument) => (argument.required ? argument.name() : `[${argument.name()}]`)),
  ];
  return roff(words.join(' '));
}

function withoutStop(text: string): string {
  return text.replace(/\.$/, '');
}

/** A line as text: no backslash, hyphen or leading dot that roff would act on. */
function roff(text: string): string {
  return text
    .replace(/\\/g, '\\e')
    .replace(/-/g, '\\-')
    .replace(/^([.'])/, '\\&$1');
}

function quoted(text: string): string {
  return `"${text.replace(/"/g, '')}"`;
}
