import { createHash, type Hash } from 'node:crypto';
import { native } from '../../native.js';
import { takeTurns } from '../../yield-to-loop.js';
import { ArchiveError } from '../format/archive-error.js';
import { checksumLine, MEMBERS_SHA256 } from '../format/manifest.js';
import { BLOCK_BYTES, padding } from '../format/tar-encode.js';
import { MEMBER_DIGESTS } from '../members/description.js';
import type { Area } from '../members/segments.js';
import type { Body, Part } from './archive-body.js';
import { MemberLines } from './checksum-lines.js';
import { ownHeader } from './own-header.js';

export interface MemberList {
  /** Of the list. */
  sha256: string;
  /** Over the digests of all that is not data, a member after the other. */
  headersSha256: string;
  /** Regular members, and the bytes of their data. */
  members: number;
  bytes: number;
}

/**
 * Hashes what has not been hashed in passing, and appends the list of hashes: it is streamed to its place, then the
 * header that needed its size is written. What is appended from here on does not count.
 */
export async function appendMemberList(body: Body): Promise<MemberList> {
  await hashParts(body);
  const headersSha256 = (await hashOfHeaders(body.parts)).toString('hex');
  const hash = createHash('sha256');
  const totals = { members: 0, bytes: 0 };
  const start = body.end + BLOCK_BYTES;
  let at = start;
  for await (const lines of linesOf(body.parts, totals)) {
    hash.update(lines);
    await body.write(at, lines);
    at += lines.length;
  }
  const size = at - start;
  const header = ownHeader(Buffer.from(MEMBERS_SHA256), size);
  if (header.length !== BLOCK_BYTES)
    throw new ArchiveError('ENTRY_UNREPRESENTABLE', {
      member: MEMBERS_SHA256,
      what: `its header takes ${header.length} bytes`,
    });
  await body.write(body.end, header);
  await body.write(at, Buffer.alloc(padding(size)));
  body.end = at + padding(size);
  return { sha256: hash.digest('hex'), headersSha256, ...totals };
}

async function hashParts({ parts, fd }: Body): Promise<void> {
  for (const part of parts) {
    if (part.kind === 'tree') {
      await part.tree.area.hashMembers();
      continue;
    }
    const digests = Buffer.alloc(MEMBER_DIGESTS);
    await native().hashMembers(fd, Float64Array.of(part.offset, part.headerBytes, part.dataBytes), digests);
    part.digests = digests;
  }
}

async function hashOfHeaders(parts: readonly Part[]): Promise<Buffer> {
  const hash = createHash('sha256');
  for (const part of parts) {
    if (part.kind === 'tree') await addHeaders(part.tree.area, hash);
    else hash.update((part.digests as Buffer).subarray(0, MEMBER_DIGESTS / 2));
  }
  return hash.digest();
}

/** Digests of so many segments are looked at together. */
const SEGMENTS = 4096;

async function addHeaders(area: Area, hash: Hash): Promise<void> {
  const digests = Buffer.allocUnsafeSlow(SEGMENTS * MEMBER_DIGESTS);
  let since = performance.now();
  for (let from = 0; from < area.count; from += SEGMENTS) {
    const end = Math.min(area.count, from + SEGMENTS);
    area.readDigests(from, end, digests);
    let bytes = 0;
    for (let segment = from; segment < end; segment++) {
      const at = (segment - from) * MEMBER_DIGESTS;
      if (area.isLive(segment)) bytes += digests.copy(digests, bytes, at, at + MEMBER_DIGESTS / 2);
    }
    hash.update(digests.subarray(0, bytes));
    since = await takeTurns(since);
  }
}

/** So many parts of the list are made ahead. */
const LINES_AHEAD = 4;

/**
 * The list of hashes, in pieces, and what it adds up to. Threads make the next ones while the caller has one, which
 * is to be used before the next is asked for.
 */
async function* linesOf(parts: readonly Part[], totals: { members: number; bytes: number }): AsyncGenerator<Buffer> {
  const ahead: (MemberLines | Buffer)[] = [];
  const spare: MemberLines[] = [];
  try {
    for (const made of startLines(parts, totals, spare)) {
      ahead.push(made);
      if (ahead.length > LINES_AHEAD) yield* piecesOf(ahead, spare);
    }
    while (ahead.length > 0) yield* piecesOf(ahead, spare);
  } finally {
    // Nothing may go on in a thread when the caller closes what it works on.
    for (const made of ahead) if (made instanceof MemberLines) await made.settle();
  }
}

function* startLines(
  parts: readonly Part[],
  totals: { members: number; bytes: number },
  spare: MemberLines[],
): Generator<MemberLines | Buffer> {
  for (const part of parts) {
    if (part.kind === 'member') {
      totals.members++;
      totals.bytes += part.dataBytes;
      yield checksumLine((part.digests as Buffer).subarray(MEMBER_DIGESTS / 2), part.name);
      continue;
    }
    for (let from = 0; from < part.tree.area.count;) {
      const lines = spare.pop() ?? new MemberLines();
      from = lines.start(part.tree, from, totals);
      yield lines;
    }
  }
}

/** Of the first one, which then can be used again. */
async function* piecesOf(ahead: (MemberLines | Buffer)[], spare: MemberLines[]): AsyncGenerator<Buffer> {
  const made = ahead.shift();
  if (!(made instanceof MemberLines)) {
    if (made !== undefined) yield made;
    return;
  }
  yield* made.pieces();
  spare.push(made);
}
