import type { ArchiveSource } from '../../archive/index.js';
import type { OptionNames } from '../../bad-option.js';
import { takeTurns } from '../../yield-to-loop.js';
import { bad, requirePid } from '../base/check-option.js';
import { refuseUnknown } from '../option-names.js';
import { matcherOf, type Matcher } from './matcher.js';
import { bytesOf, memoryOf, type MemoryRun } from './memory-runs.js';
import { READING_OPTIONS, withImages, type DumpedImagesOf, type InspectProcessesOptions } from './open-images.js';

export interface SearchMemoryOptions extends InspectProcessesOptions {
  /** Whose memory, by the ids of the dumped pid namespace. */
  pid: number;
  /** What to look for: bytes, or a text, as UTF-8. Either this or `regex`. */
  text?: string | Uint8Array | undefined;
  /**
   * A regular expression of JavaScript's over bytes; `.` is any byte but a line end. Matches of more than 4096 bytes
   * may be cut.
   */
  regex?: string | undefined;
  /** How many bytes before and behind each match are handed out with it: at most 65536. Default: 32. */
  contextBytes?: number | undefined;
  /** Called for each match, in the order of addresses, and awaited. What it throws ends the search. */
  onMatch: (match: MemoryMatch) => Promise<void> | undefined;
}

export interface MemoryMatch {
  /** Of its first byte, as hexadecimal text (`0x7f…`). */
  address: string;
  match: Buffer;
  before: Buffer;
  after: Buffer;
  /** What kind of memory it is in: see `InspectedMapping`. */
  kind: string;
}

export interface MemorySearch {
  matches: number;
  searchedBytes: number;
  /** What was dumped of the process, but is not in this archive: in a parent image, or compressed. */
  missingBytes: number;
}

const OPTIONS: OptionNames<SearchMemoryOptions> = {
  ...READING_OPTIONS,
  pid: true,
  text: true,
  regex: true,
  contextBytes: true,
  onMatch: true,
};

const CHUNK_BYTES = 512 * 1024;
const MAX_CONTEXT_BYTES = 64 * 1024;

/**
 * Looks through the dumped memory of one process, shared memory included. What is not there is what CRIU dumps of no
 * process: pages that are as in the mapped file, such as code. A match is found across the borders of pages and of
 * mappings that are beside each other. Memory of Stillframe's own is bounded, whatever the size of the archive.
 * @throws CheckpointError BAD_OPTION, NOT_IN_CHECKPOINT; ArchiveError ARCHIVE_DAMAGED for memory that is cut short; and
 *   those of `inspectProcesses`
 */
export async function searchMemory(source: ArchiveSource, options: SearchMemoryOptions): Promise<MemorySearch> {
  refuseUnknown(options, OPTIONS);
  const { pid, text, regex, contextBytes = 32, onMatch } = options;
  if (typeof onMatch !== 'function') bad('onMatch', onMatch, 'a function');
  requirePid('pid', pid);
  if (!Number.isSafeInteger(contextBytes) || contextBytes < 0 || contextBytes > MAX_CONTEXT_BYTES)
    bad('contextBytes', contextBytes, `a number from 0 to ${MAX_CONTEXT_BYTES}`);
  const matcher = matcherOf({ text, regex });
  return withImages(source, options, async (images) => {
    const { mappings, runs } = await memoryOf(images, pid);
    let last = 0;
    /** Matches come by their addresses, as mappings do. */
    const kindAt = (address: number): string => {
      for (let one = mappings[last]; one !== undefined && one.end <= address; one = mappings[++last]);
      return mappings[last]?.kind ?? 'unknown';
    };
    const found: MemorySearch = { matches: 0, searchedBytes: 0, missingBytes: 0 };
    for await (const { address, data, start, end } of matchesIn(images, runs(), { matcher, contextBytes, found })) {
      found.matches++;
      await onMatch({
        address: `0x${(address + start).toString(16)}`,
        match: Buffer.from(data.subarray(start, end)),
        before: Buffer.from(data.subarray(Math.max(0, start - contextBytes), start)),
        after: Buffer.from(data.subarray(end, end + contextBytes)),
        kind: kindAt(address + start),
      });
    }
    return found;
  });
}

interface Searching {
  matcher: Matcher;
  contextBytes: number;
  /** Counts the bytes. */
  found: MemorySearch;
}

/** A match in bytes that begin at an address. */
interface Match {
  address: number;
  data: Buffer;
  start: number;
  end: number;
}

/**
 * Reads in pieces, and keeps as much of the last one as a match, and what is shown with it, may need of it. A match is
 * decided on when enough is known of what follows: at once where the memory ends.
 */
async function* matchesIn(
  images: DumpedImagesOf,
  runs: AsyncIterable<MemoryRun>,
  { matcher, contextBytes, found }: Searching,
): AsyncGenerator<Match, void> {
  let data: Buffer = Buffer.alloc(0);
  let address = 0;
  /** Before it, everything has been looked at. */
  let from = 0;
  function* decide(until: number): Generator<Match, void> {
    for (;;) {
      const next = from < until ? matcher.find(data, from) : undefined;
      if (next === undefined || next.start >= until) break;
      from = next.end;
      yield { address, data, ...next };
    }
    from = Math.max(from, until);
  }
  let turn = performance.now();
  for await (const run of runs) {
    if (run.at === undefined) {
      found.missingBytes += run.bytes;
      continue;
    }
    if (run.address !== address + data.length) {
      yield* decide(data.length);
      [data, address, from] = [Buffer.alloc(0), run.address, 0];
    }
    for await (const chunk of bytesOf(images, run, CHUNK_BYTES)) {
      found.searchedBytes += chunk.length;
      const kept = Math.max(0, from - contextBytes);
      data = Buffer.concat([data.subarray(kept), chunk]);
      address += kept;
      from -= kept;
      yield* decide(Math.max(from, data.length - matcher.maxBytes - contextBytes));
      turn = await takeTurns(turn, images.signal);
    }
  }
  yield* decide(data.length);
}
