import { Argument, Command } from 'commander';
import { completionScript, SHELLS, type Shell } from '../completion.js';

export function completionCommand(signal: AbortSignal): Command {
  return new Command('completion')
    .description('Print a script that completes this command line in a shell.')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .addHelpText(
      'after',
      `
Examples:
  eval "$(stillframe completion bash)"
  stillframe completion bash > /etc/bash_completion.d/stillframe
  stillframe completion zsh > /usr/local/share/zsh/site-functions/_stillframe
  stillframe completion fish > ~/.config/fish/completions/stillframe.fish`,
    )
    .action(async (shell: Shell) => {
      // Its own definition is among them.
      const { commandsFor } = await import('./all.js');
      process.stdout.write(completionScript(shell, await commandsFor(undefined, signal)));
    });
}
