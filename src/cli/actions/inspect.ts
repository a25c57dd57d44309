import { inspect, inspectProcesses, verify, type InspectOptions } from '../../index.js';
import { checkpointCommand } from '../commands/checkpoint.js';
import { refuseBeside } from '../container-options.js';
import { JsonView, TextView } from '../inspection-view.js';
import { json } from '../output.js';
import { processesText, type ProcessViews } from '../processes-text.js';
import { archiveOf } from '../standard-input.js';
import { verificationText } from '../verification-text.js';
import { LongOutput, print, ReaderGone } from '../streams.js';

/** What commander hands over. */
export interface ReadFlags {
  maxUnpackedBytes?: number;
  json?: boolean;
}

export interface InspectFlags extends ReadFlags, ProcessViews {
  members?: boolean;
}

export async function inspectAction(argument: string, options: InspectFlags, signal: AbortSignal): Promise<void> {
  if (options.ps === true || options.files === true || options.sockets === true)
    return inspectProcessesAction(argument, options, signal);
  await using source = await archiveOf(argument);
  const { maxUnpackedBytes, json: asJson = false, members: listMembers = false } = options;
  const { archiveName } = source;
  const output = new LongOutput();
  const view = asJson ? new JsonView() : new TextView(listMembers, checkpointCommand(signal));
  const onMember: InspectOptions['onMember'] = (member) => output.add(view.member(member));
  try {
    const inspection = await inspect(source.archive, { archiveName, signal, maxUnpackedBytes, onMember });
    await output.add(view.end(inspection));
    await output.flush();
  } catch (error) {
    if (!(error instanceof ReaderGone)) throw error;
  }
}

async function inspectProcessesAction(argument: string, options: InspectFlags, signal: AbortSignal): Promise<void> {
  refuseBeside('--ps, --files or --sockets', options, ['members']);
  await using source = await archiveOf(argument);
  const { maxUnpackedBytes } = options;
  const { archiveName } = source;
  const processes = await inspectProcesses(source.archive, { archiveName, signal, maxUnpackedBytes });
  print(options.json === true ? json({ processes }) : processesText(processes, options));
}

export async function verifyAction(argument: string, options: ReadFlags, signal: AbortSignal): Promise<void> {
  await using source = await archiveOf(argument);
  const { maxUnpackedBytes } = options;
  const { archiveName } = source;
  const verified = await verify(source.archive, { archiveName, signal, maxUnpackedBytes });
  const { archivePath, members, bytes: size, foreign, restorable } = verified;
  print(
    options.json === true
      ? json({ archivePath, members, bytes: size, ...(foreign === undefined ? {} : { foreign }), restorable })
      : verificationText(verified),
  );
  if (restorable.faults.length > 0) process.exitCode = 1;
}
