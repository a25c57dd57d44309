import type { Command, Option } from 'commander';

/** Scripts that complete the command line in a shell, made of the commands' own definitions. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

export function completionScript(shell: Shell, commands: readonly Command[]): string {
  return { bash, zsh, fish }[shell](commands);
}

/** Whoever completes takes a path for a value, unless there is a list of the values there are. */
function bash(commands: readonly Command[]): string {
  return `# bash completion of stillframe: eval "$(stillframe completion bash)"
_stillframe() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]}
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W ${quoted(commands.map((command) => command.name()).join(' '))} -- "$word")
    return
  fi
  local options=
  case \${COMP_WORDS[1]} in
${commands
  .map(
    (command) => `    ${command.name()})
      options=${quoted(flagsOf(command).join(' '))}
${command.options
  .filter(({ argChoices }) => argChoices !== undefined)
  .map(
    (option) =>
      `      [ "$before" = ${String(option.long)} ] && mapfile -t COMPREPLY < <(compgen -W ${quoted((option.argChoices ?? []).join(' '))} -- "$word") && return\n`,
  )
  .join('')}      ;;`,
  )
  .join('\n')}
  esac
  case $word in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word") ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
  esac
}
complete -o filenames -F _stillframe stillframe
`;
}

function zsh(commands: readonly Command[]): string {
  const described = (command: Command): string => quoted(`${command.name()}:${escapeColons(command.description())}`);
  return `#compdef stillframe
# zsh completion of stillframe: eval "$(stillframe completion zsh)", after compinit
_stillframe() {
  local -a commands
  commands=(
${commands.map((command) => `    ${described(command)}`).join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case \${words[2]} in
${commands
  .map(
    (command) => `    ${command.name()})
      _arguments \\
${command.options.map((option) => `        ${quoted(zshOption(option))} \\\n`).join('')}        '*:file:_files'
      ;;`,
  )
  .join('\n')}
  esac
}
compdef _stillframe stillframe
`;
}

function zshOption(option: Option): string {
  const text = option.description.replace(/[[\]\\]/g, '\\$&').replace(/:/g, '\\:');
  const values = option.argChoices === undefined ? '_files' : `(${option.argChoices.join(' ')})`;
  return `*${String(option.long)}[${text}]${takesValue(option) ? `:value:${values}` : ''}`;
}

function fish(commands: readonly Command[]): string {
  const lines = commands.flatMap((command) => {
    const seen = `__fish_seen_subcommand_from ${command.name()}`;
    return [
      `complete -c stillframe -f -n __fish_use_subcommand -a ${command.name()} -d ${fishQuoted(command.description())}`,
      ...command.options.map((option) => {
        const values = option.argChoices === undefined ? '-r -F' : `-x -a ${fishQuoted(option.argChoices.join(' '))}`;
        const value = takesValue(option) ? ` ${values}` : '';
        return `complete -c stillframe -n ${fishQuoted(seen)} -l ${String(option.long).slice(2)}${value} -d ${fishQuoted(option.description)}`;
      }),
    ];
  });
  return `# fish completion of stillframe: stillframe completion fish | source\n${lines.join('\n')}\n`;
}

function flagsOf(command: Command): string[] {
  return [...command.options.map(({ long }) => String(long)), '--help'];
}

function takesValue({ required, optional }: Option): boolean {
  return required || optional;
}

function escapeColons(text: string): string {
  return text.replace(/[\\:]/g, '\\$&');
}

function quoted(text: string): string {
  return `'${text.replace(/'/g, `'\\''`)}'`;
}

function fishQuoted(text: string): string {
  return `'${text.replace(/[\\']/g, '\\$&')}'`;
}
