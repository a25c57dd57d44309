import { styleText } from 'node:util';
import { Command } from 'commander';
import { diagnose } from '../../index.js';
import { EXIT_FAILED } from '../exit-status.js';
import { json, print } from '../output.js';

const MARKS = { ok: 'ok     ', note: 'note   ', problem: 'PROBLEM' } as const;

const COLOURS = { ok: 'green', note: 'yellow', problem: ['red', 'bold'] } as const satisfies Record<
  string,
  Parameters<typeof styleText>[0]
>;

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Check whether this machine can run checkpoints, and say how to fix what is missing.')
    .option('--work-dir <dir>', 'the directory that archives and images will be written to')
    .option('--json', 'print the diagnosis as JSON')
    .addHelpText(
      'after',
      '\nExit status 1 if something necessary is missing.\n\nExample:\n  sudo stillframe doctor --work-dir /var/lib/checkpoints',
    )
    .action(async (options: { workDir?: string; json?: boolean }) => {
      const diagnosis = await diagnose({ workDir: options.workDir });
      if (options.json === true) print(json(diagnosis));
      else {
        for (const { subject, verdict, what, remedy } of diagnosis.findings) {
          const mark = styleText(COLOURS[verdict], MARKS[verdict], { stream: process.stdout });
          process.stdout.write(`${mark}  `); // its colours are ours
          print(`${subject}: ${what}${remedy === '' ? '' : `\n         ${remedy}`}`);
        }
      }
      if (!diagnosis.usable) process.exitCode = EXIT_FAILED;
    });
}
