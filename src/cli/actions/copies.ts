import { InvalidArgumentError, type Command } from 'commander';
import { restoreCopies } from '../../index.js';
import { refuseBeside } from '../container-options.js';
import { criuFlags, criuOptions } from '../criu-options.js';
import { errorText } from '../error-text.js';
import { EXIT_FAILED } from '../exit-status.js';
import { facts, json } from '../output.js';
import { print, printError } from '../streams.js';
import { warningsText } from '../warnings.js';
import { cloneOptions, type RestoreFlags } from './restore.js';

/** Several copies at once. Those that came up run, and are told, whatever became of the others. */
export async function copiesAction(
  archive: string,
  options: RestoreFlags & { count: number },
  signal: AbortSignal,
  command: Command,
): Promise<void> {
  if (options.clone !== true) throw new InvalidArgumentError('--count needs --clone.');
  if (archive === '-') throw new InvalidArgumentError('Several copies are made from a file: give its path.');
  refuseBeside('--count', options, ['replace', 'discardReplaced', 'lazyPages', 'wait', 'runc', 'crun', 'podman']);
  const { copies, failed } = await restoreCopies({
    archive,
    count: options.count,
    signal,
    workDir: options.workDir,
    stateDir: options.stateDir,
    maxUnpackedBytes: options.maxUnpackedBytes,
    strict: options.strict,
    files: Object.fromEntries(options.files ?? []),
    cgroup: options.cgroup,
    criuLog: options.criuLog,
    criu: criuOptions(criuFlags(options)),
    replaceAddresses: options.replaceAddress,
    ...cloneOptions(options),
  });
  if (options.json === true) print(json({ copies, failed: failed.map((error) => String((error as Error).message)) }));
  else for (const { pid } of copies) print(String(pid));
  for (const error of failed) printError(errorText(error, false, command));
  printError(
    `${warningsText(copies[0]?.warnings ?? [], command)}${facts([
      ['copies that run', copies.length],
      ['their files', copies[0]?.clone?.files ?? 'none'],
    ])}`,
  );
  if (failed.length > 0) process.exitCode = EXIT_FAILED;
}
