import { Command } from 'commander';
import { restore, type RestoreReport } from '../../index.js';
import { pair, positiveInteger } from '../arguments.js';
import { facts, json, milliseconds } from '../output.js';
import { ProgressLine } from '../progress.js';

interface Options {
  files?: [name: string, path: string][];
  cgroup?: string;
  workDir?: string;
  criuLog?: string;
  pidTimeout?: number;
  json?: boolean;
}

export function restoreCommand(signal: AbortSignal): Command {
  return new Command('restore')
    .description('Verify an archive, put its files back, and bring its process tree back to life.')
    .argument('<archive>', 'what `stillframe checkpoint` wrote')
    .option('--files <name=dir>', 'where a file tree goes (default: where it was); may be repeated', pair)
    .option('--cgroup <dir>', 'restore into this cgroup, made when missing (default: the recorded one)')
    .option('--work-dir <dir>', "where CRIU's images are unpacked first (default: the archive's directory)")
    .option('--pid-timeout <ms>', 'how long to wait for the old process ids to be free', positiveInteger)
    .option('--criu-log <file>', "where CRIU's log is kept when CRIU fails")
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      `
Prints the pid of the restored tree's root. The archive is verified before anything is touched.

Examples:
  stillframe restore app.tar
  stillframe restore app.tar --files data=/srv/app/data --cgroup /sys/fs/cgroup/app`,
    )
    .action((archive: string, options: Options) => run(archive, options, signal));
}

async function run(archive: string, options: Options, signal: AbortSignal): Promise<void> {
  const progress = new ProgressLine();
  let report: RestoreReport;
  try {
    report = await restore({
      archive,
      files: Object.fromEntries(options.files ?? []),
      signal,
      onProgress: progress.update,
      cgroup: options.cgroup,
      workDir: options.workDir,
      criuLog: options.criuLog,
      pidTimeoutMs: options.pidTimeout,
    });
  } finally {
    progress.stop();
  }
  if (options.json === true) process.stdout.write(`${json(report)}\n`);
  else {
    process.stdout.write(`${report.pid}\n`);
    process.stderr.write(
      `${facts([
        ['processes', report.pids.length],
        ['cgroup', report.cgroup ?? "this command's own"],
        ['total time', milliseconds(report.totalMs)],
      ])}\n`,
    );
  }
}
