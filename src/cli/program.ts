import { Command } from 'commander';
import { visible } from '../visible.js';
import { commandsFor } from './commands/all.js';
import { ownVersion } from './version.js';

/**
 * The command line as commander knows it.
 * @param word The first word of the command line: with the name of a command only that one is loaded.
 */
export async function makeProgram(word: string | undefined, signal: AbortSignal): Promise<Command> {
  const program = new Command('stillframe')
    .description(
      'Freeze a process tree, checkpoint it with CRIU, archive its files while they cannot change, and thaw it, with verification at every step.',
    )
    .version(ownVersion())
    .addHelpText(
      'after',
      `
Exit status: 0 success, 1 failure, 2 wrong usage, 130 or 143 cancelled by SIGINT or SIGTERM.

Examples:
  sudo stillframe doctor
  sudo stillframe checkpoint --pid 4711 --files /srv/app/data --output app.tar
  sudo stillframe restore app.tar`,
    );
  for (const command of await commandsFor(word, signal)) program.addCommand(tamed(command));
  return tamed(program);
}

/**
 * Commander ends the process by itself on wrong usage, and repeats arguments as they are, escape sequences included,
 * unless each command says otherwise.
 */
function tamed(command: Command): Command {
  const name = command.name();
  return command
    .exitOverride()
    .showHelpAfterError(`(see: ${name === 'stillframe' ? name : `stillframe ${name}`} --help)`)
    .configureOutput({
      writeOut: (text) => process.stdout.write(visible(text)),
      writeErr: (text) => process.stderr.write(visible(text)),
    });
}
