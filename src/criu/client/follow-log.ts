import { open, stat, type FileHandle } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OptionNames } from '../../bad-option.js';
import { parseLogLine, type LogLine } from '../errors/log-line.js';
import { requireMs } from '../rpc/milliseconds.js';
import { filled, onlyKnown } from '../rpc/option-values.js';

export type { LogLine };

export interface FollowLogOptions {
  /** Ends the stream: what has been written by then still comes. Without it the stream never ends. */
  signal?: AbortSignal;
  /** How often the log is looked at, in milliseconds. Default 20. */
  everyMs?: number;
}

const OPTIONS: OptionNames<FollowLogOptions> = { signal: true, everyMs: true };

/**
 * The lines of a log that CRIU is about to write, as they come. The file may not exist yet; one that is there already
 * is taken for that of an earlier request, which CRIU will empty: it is read once it has changed. When this resolves
 * the stream stands at its beginning; when the log grew and shrank between two looks, lines can be lost.
 *
 * It looks at the file again and again: at level 4 CRIU writes ten thousand lines in a second, and inotify would wake
 * for each.
 * @throws CriuError BAD_OPTION
 */
export async function followLog(path: string, options: FollowLogOptions = {}): Promise<AsyncIterable<LogLine>> {
  filled('path', path);
  onlyKnown(options, OPTIONS);
  const { signal, everyMs = 20 } = options;
  requireMs('everyMs', everyMs);
  const before = await stamp(path);
  return follow(path, before, signal, everyMs);
}

async function* follow(
  path: string,
  before: string | undefined,
  signal: AbortSignal | undefined,
  everyMs: number,
): AsyncGenerator<LogLine> {
  let file: FileHandle | undefined;
  let rest = '';
  const decoder = new TextDecoder();
  let position = 0;
  try {
    for (;;) {
      // Asked first: what was written before the end was called for belongs to the stream.
      const last = signal?.aborted === true;
      if (file === undefined && (await stamp(path)) !== before) file = await open(path, 'r').catch(() => undefined);
      for (;;) {
        const chunk = file === undefined ? undefined : await file.read(Buffer.alloc(64 * 1024), 0, 64 * 1024, position);
        if (chunk === undefined || chunk.bytesRead === 0) break;
        position += chunk.bytesRead;
        const lines = (rest + decoder.decode(chunk.buffer.subarray(0, chunk.bytesRead), { stream: true })).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) yield parseLogLine(line);
      }
      if (last) break;
      await sleep(everyMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
    }
    if (rest !== '') yield parseLogLine(rest);
  } finally {
    await file?.close();
  }
}

/** What tells one writing of a file from the next. */
async function stamp(path: string): Promise<string | undefined> {
  try {
    const { ino, mtimeNs, size } = await stat(path, { bigint: true });
    return `${ino} ${mtimeNs} ${size}`;
  } catch {
    return undefined;
  }
}
