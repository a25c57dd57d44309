import { inspect, verify, type InspectOptions } from '../../index.js';
import { checkpointCommand } from '../commands/checkpoint.js';
import { JsonView, TextView } from '../inspection-view.js';
import { json } from '../output.js';
import { archiveOf } from '../standard-input.js';
import { verificationText } from '../verification-text.js';
import { LongOutput, print, ReaderGone } from '../streams.js';

/** What commander hands over. */
export interface ReadFlags {
  maxUnpackedBytes?: number;
  json?: boolean;
}

export async function inspectAction(
  argument: string,
  options: ReadFlags & { members?: boolean },
  signal: AbortSignal,
): Promise<void> {
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
