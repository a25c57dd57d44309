import { Command } from 'commander';

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Check whether this machine can run checkpoints, and say how to fix what is missing.')
    .option('--work-dir <dir>', 'the directory that archives and images will be written to')
    .option('--json', 'print the diagnosis as JSON')
    .addHelpText(
      'after',
      '\nExit status 1 if something necessary is missing.\n\nExample:\n  sudo stillframe doctor --work-dir /var/lib/checkpoints',
    )
    .action(async (options: { workDir?: string; json?: boolean }) =>
      (await import('../actions/doctor.js')).doctorAction(options),
    );
}
