import { InvalidArgumentError } from 'commander';
import { readMemory, searchMemory } from '../../index.js';
import { refuseBeside } from '../container-options.js';
import { JsonList } from '../json-list.js';
import { hexLines, matchJson, matchLine, searchLine } from '../memory-text.js';
import { archiveOf } from '../standard-input.js';
import { LongOutput, ReaderGone } from '../streams.js';

export interface MemoryFlags {
  mem?: number;
  search?: string;
  regex?: string;
  hexdump?: { start: number; end: number };
  maxUnpackedBytes?: number;
  json?: boolean;
}

/** `inspect --mem PID`: with what it looks for. */
export async function inspectMemoryAction(argument: string, options: MemoryFlags, signal: AbortSignal): Promise<void> {
  const { mem: pid, search: text, regex, hexdump, maxUnpackedBytes, json: asJson = false } = options;
  if ([text, regex, hexdump].filter((one) => one !== undefined).length !== 1)
    throw new InvalidArgumentError('Give --mem with one of --search, --regex and --hexdump.');
  if (pid === undefined) throw new InvalidArgumentError('Give --mem PID: whose memory.');
  if (hexdump !== undefined) refuseBeside('--hexdump', options, ['json']);
  await using source = await archiveOf(argument);
  const { archiveName } = source;
  const reading = { archiveName, signal, maxUnpackedBytes, pid };
  const output = new LongOutput();
  try {
    if (hexdump !== undefined)
      await readMemory(source.archive, { ...reading, ...hexdump, onBytes: (piece) => output.add(hexLines(piece)) });
    else {
      const list = new JsonList('matches');
      const found = await searchMemory(source.archive, {
        ...{ ...reading, text, regex },
        onMatch: (match) => output.add(asJson ? list.item(matchJson(match)) : matchLine(match)),
      });
      const { matches: _, ...rest } = found;
      await output.add(asJson ? list.end(rest) : searchLine(found));
    }
    await output.flush();
  } catch (error) {
    if (!(error instanceof ReaderGone)) throw error;
  }
}
