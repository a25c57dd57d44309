import { prepare } from '../../index.js';
import { bytes, facts, json, milliseconds } from '../output.js';
import { ProgressLine } from '../progress.js';
import { archiveOf } from '../standard-input.js';
import { print, printError } from '../streams.js';

/** What commander hands over. */
export interface PrepareFlags {
  workDir?: string;
  maxUnpackedBytes?: number;
  stateDir?: string;
  json?: boolean;
}

export async function prepareAction(
  argument: string,
  dir: string,
  { json: asJson, ...options }: PrepareFlags,
  signal: AbortSignal,
): Promise<void> {
  const progress = new ProgressLine();
  try {
    await using source = await archiveOf(argument);
    const { archive, archiveName } = source;
    const report = await prepare({
      ...options,
      archive,
      archiveName,
      dir,
      signal,
      onProgress: (event) => progress.update(event),
    });
    progress.stop();
    if (asJson === true) return print(json(report));
    print(report.dir);
    printError(
      facts([
        ['files', report.files],
        ['size', bytes(report.bytes)],
        ['total time', milliseconds(report.totalMs)],
      ]),
    );
  } finally {
    progress.stop();
  }
}
