import { InvalidArgumentError } from 'commander';
import { readMemory, searchMemory } from '../../index.js';
import { refuseBeside } from '../container-options.js';
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
      let isFirst = true;
      const found = await searchMemory(source.archive, {
        ...{ ...reading, text, regex },
        onMatch: (match) => {
          const before = isFirst ? '{\n  "matches": [\n' : ',\n';
          isFirst = false;
          return output.add(asJson ? `${before}    ${matchJson(match)}` : matchLine(match));
        },
      });
      const { matches: _, ...rest } = found;
      const end = `${isFirst ? '{\n  "matches": [' : '\n  '}],\n${JSON.stringify(rest, null, 2).replace(/^\{\n/, '')}\n`;
      await output.add(asJson ? end : searchLine(found));
    }
    await output.flush();
  } catch (error) {
    if (!(error instanceof ReaderGone)) throw error;
  }
}
