#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { checkpointCommand } from './commands/checkpoint.js';
import { doctorCommand } from './commands/doctor.js';
import { freezeCommand, statusCommand, thawCommand } from './commands/freezer.js';
import { inspectCommand, verifyCommand } from './commands/inspect.js';
import { installCriuCommand } from './commands/install-criu.js';
import { imageCommand } from './commands/image.js';
import { podCommand } from './commands/pod.js';
import { recoverCommand } from './commands/recover.js';
import { restoreCommand } from './commands/restore.js';
import { Cancelled, exitStatusOf, failure } from './cancelled.js';
import { EXIT_USAGE } from './exit-status.js';
import { endQuietlyWithoutReader, errorText, printError } from './output.js';
import { visible } from '../visible.js';

const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

const program = new Command('stillframe')
  .description(
    'Freeze a process tree, checkpoint it with CRIU, archive its files while they cannot change, and thaw it, with verification at every step.',
  )
  .version(version)
  .showHelpAfterError('(see: stillframe --help)')
  .addHelpText(
    'after',
    `
Exit status: 0 success, 1 failure, 2 wrong usage, 130 or 143 cancelled by SIGINT or SIGTERM.

Examples:
  sudo stillframe doctor
  sudo stillframe checkpoint --pid 4711 --files /srv/app/data --output app.tar
  sudo stillframe restore app.tar`,
  );

// Ctrl-C and a service manager's stop cancel what is under way; it ends by thawing what it froze.
const cancel = new AbortController();
endQuietlyWithoutReader();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => cancel.abort(new Cancelled(signal)));
}

for (const make of [
  checkpointCommand,
  restoreCommand,
  podCommand,
  imageCommand,
  freezeCommand,
  thawCommand,
  statusCommand,
  inspectCommand,
  verifyCommand,
  recoverCommand,
  doctorCommand,
  installCriuCommand,
]) {
  program.addCommand(tamed(make(cancel.signal)));
}

// What a failure is told in the words of.
let acting = program;
program.hook('preAction', (_, command) => {
  acting = command;
});

/**
 * Commander ends the process by itself on wrong usage, and repeats arguments as they are, escape sequences included,
 * unless each command says otherwise.
 */
function tamed(command: Command): Command {
  return command.exitOverride().configureOutput({
    writeOut: (text) => process.stdout.write(visible(text)),
    writeErr: (text) => process.stderr.write(visible(text)),
  });
}

try {
  await tamed(program).parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Help and version are no failures; commander has printed what is to be said, but for what a command itself
    // refused.
    if (error instanceof InvalidArgumentError) printError(`error: ${error.message}`);
    process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  } else {
    printError(errorText(failure(error, cancel.signal), process.argv.includes('--json'), acting));
    process.exitCode = exitStatusOf(error, cancel.signal);
  }
}
