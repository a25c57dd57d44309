import { CommanderError, InvalidArgumentError } from 'commander';
import { refuseDamagedArguments } from './byte-arguments.js';
import { Cancelled, exitStatusOf, failure } from './cancelled.js';
import { makeProgram } from './program.js';
import { EXIT_USAGE } from './exit-status.js';
import { endQuietlyWithoutReader, printError } from './streams.js';

// Ctrl-C and a service manager's stop cancel what is under way; it ends by thawing what it froze.
const cancel = new AbortController();
endQuietlyWithoutReader();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => cancel.abort(new Cancelled(signal)));
}

const program = await makeProgram(process.argv[2], cancel.signal);

// What a failure is told in the words of.
let acting = program;
program.hook('preAction', (_, command) => {
  acting = command;
});

try {
  refuseDamagedArguments(process.argv);
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Help and version are no failures; commander has printed what is to be said, but for what a command itself
    // refused.
    if (error instanceof InvalidArgumentError)
      printError(`error: ${error.message}\n(see: stillframe ${acting === program ? '' : `${acting.name()} `}--help)`);
    process.exitCode = error.exitCode === 0 ? 0 : EXIT_USAGE;
  } else {
    const { errorText } = await import('./error-text.js');
    printError(errorText(failure(error, cancel.signal), process.argv.includes('--json'), acting));
    process.exitCode = exitStatusOf(error, cancel.signal);
  }
}
