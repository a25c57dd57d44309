/**
 * Tar headers as entries. No file is touched here: the parser says how many bytes it needs next, and whoever
 * has them hands them in, so one parser serves a stream, a random-access file and a tar within a tar.
 *
 * Reads what tar.ts writes, and foreign tars: ustar with its prefix, pax (local and global), GNU long names
 * and base-256 numbers, GNU sparse 1.0. No length of the archive is believed before it is bounded.
 * Source: POSIX.1-2017, pax; GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
 */
import { ArchiveError } from './archive-error.js';
import { printable } from './byte-text.js';
import type { Entry, EntryType, Xattr } from './entry.js';
import { MAX_NAME_BYTES } from './names.js';
import { MAX_PAX_BYTES, parsePax, parsePaxTime, paxNumber, unescapeKeyword } from './pax.js';
import { SparseMap } from './sparse-map.js';
import { BLOCK_BYTES, padding, storedSize } from './tar-encode.js';
import { checksumFits, fieldNumber, isZero, normalName, untilZero, ustarName } from './tar-fields.js';

export type Parsed =
  /** All headers of a member are read; its data and padding follow. */
  | { kind: 'member'; entry: Entry; storedBytes: number }
  /** A zero block: the archive ends here. */
  | { kind: 'end' };

/** Each member looks at all of them. */
const MAX_GLOBALS = 100;

type ParseErrorCode = 'NOT_AN_ARCHIVE' | 'ARCHIVE_DAMAGED' | 'ARCHIVE_UNSUPPORTED' | 'ARCHIVE_TRUNCATED';

const XATTR = 'SCHILY.xattr.';

const TYPES: Readonly<Record<string, EntryType>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'character-device',
  '4': 'block-device',
  '5': 'directory',
  '6': 'fifo',
};

/** What is gathered until a member's headers are complete. */
interface Pending {
  /**
   * The header blocks before the member's own, by their flags; none may come twice, or an archive could grow our memory
   * without end.
   */
  seen: string;
  /** Of all of them together, bounded. */
  bytes: number;
  pax: ReadonlyMap<string, string>;
  longName?: string;
  longLink?: string;
}

const NOTHING: ReadonlyMap<string, string> = new Map();

type State =
  | { step: 'header' }
  | { step: 'body'; flag: 'x' | 'g' | 'L' | 'K'; bytes: number }
  | {
      step: 'map';
      entry: Entry;
      archivedBytes: number;
      map: SparseMap;
    };

export interface TarParserOptions {
  /** For errors. */
  archivePath?: string | undefined;
  /**
   * Global headers set what every member after them does not set itself. The writing side never makes any; where each
   * member costs something (an attribute is stored for each), a few bytes could cost gigabytes. Default: they are read.
   */
  refuseGlobals?: boolean | undefined;
}

export class TarParser {
  readonly #archivePath: string | undefined;
  readonly #refuseGlobals: boolean;
  readonly #global = new Map<string, string>();
  /** Of all global headers together. */
  #globalBytes = 0;
  /** The global attributes, and one list of them for all members that have none of their own. */
  #globalXattrs: ReadonlyMap<string, Xattr> = new Map();
  #globalList: Xattr[] = [];
  #pending: Pending = nothingYet();
  #state: State = { step: 'header' };
  #begun = false;
  #offset: number | undefined;

  constructor(options: TarParserOptions = {}) {
    this.#archivePath = options.archivePath;
    this.#refuseGlobals = options.refuseGlobals ?? false;
  }

  /** How many bytes the next `push` wants: always whole blocks. */
  get need(): number {
    return this.#state.step === 'body' ? this.#state.bytes + padding(this.#state.bytes) : BLOCK_BYTES;
  }

  /** True between members: here the archive may end, and the next header begins. */
  get atMember(): boolean {
    return this.#state.step === 'header' && /^g?$/.test(this.#pending.seen);
  }

  /**
   * Takes exactly `need` bytes. Undefined: more headers follow.
   * @param offset Where in the archive they are; errors tell it.
   * @throws ArchiveError NOT_AN_ARCHIVE (the first header is none), ARCHIVE_DAMAGED, ARCHIVE_UNSUPPORTED
   */
  push(bytes: Buffer, offset?: number): Parsed | undefined {
    const state = this.#state;
    this.#offset = offset;
    if (state.step === 'body') return this.#body(state.flag, bytes.subarray(0, state.bytes));
    if (state.step === 'map') return this.#map(state, bytes);
    return this.#header(bytes);
  }

  #header(block: Buffer): Parsed | undefined {
    if (isZero(block)) {
      if (!this.atMember) throw this.#error('ARCHIVE_DAMAGED', 'a pax or long-name header without its member');
      return { kind: 'end' };
    }
    if (!checksumFits(block))
      throw this.#error(this.#begun ? 'ARCHIVE_DAMAGED' : 'NOT_AN_ARCHIVE', 'expected a tar header');
    this.#begun = true;
    const flag = String.fromCharCode(block[156] ?? 0);
    if (flag === 'x' || flag === 'g' || flag === 'L' || flag === 'K') {
      this.#extended(block, flag);
      return undefined;
    }
    return this.#member(block, flag);
  }

  /** Bounds what a header before a member's own may cost, before any of it is read. */
  #extended(block: Buffer, flag: 'x' | 'g' | 'L' | 'K'): void {
    const pending = this.#pending;
    const bytes = this.#number(block, 124, 12, 'size');
    if (flag === 'g' && this.#refuseGlobals) throw this.#error('ARCHIVE_UNSUPPORTED', 'a global pax header');
    if (pending.seen.includes(flag))
      throw this.#error(
        'ARCHIVE_DAMAGED',
        `two ${flag === 'x' || flag === 'g' ? 'pax headers' : 'long names'} for one member`,
      );
    pending.seen += flag;
    const total = flag === 'g' ? (this.#globalBytes += bytes) : (pending.bytes += bytes);
    // A name of GNU's ends in a zero.
    const most = flag === 'x' || flag === 'g' ? MAX_PAX_BYTES : MAX_NAME_BYTES + 1;
    if (bytes === 0 || bytes > most || total > MAX_PAX_BYTES)
      throw this.#error(
        'ARCHIVE_DAMAGED',
        `${bytes === total ? 'an extended header' : 'extended headers'} of ${total} bytes`,
      );
    this.#state = { step: 'body', flag, bytes };
  }

  #body(flag: 'x' | 'g' | 'L' | 'K', body: Buffer): undefined {
    this.#state = { step: 'header' };
    const pending = this.#pending;
    if (flag === 'L' || flag === 'K') {
      pending[flag === 'L' ? 'longName' : 'longLink'] = untilZero(body.toString('latin1'));
      return undefined;
    }
    const parsed = parsePax(body);
    if ('wrong' in parsed) throw this.#error('ARCHIVE_DAMAGED', parsed.wrong);
    const into = flag === 'x' ? new Map<string, string>() : this.#global;
    for (const [keyword, value] of parsed.records) {
      if (value === '' && !keyword.startsWith(XATTR)) into.delete(keyword);
      else into.set(keyword, value);
    }
    if (flag === 'x') {
      pending.pax = into;
      return undefined;
    }
    if (this.#global.size > MAX_GLOBALS)
      throw this.#error('ARCHIVE_DAMAGED', `more than ${MAX_GLOBALS} global pax records`);
    this.#globalXattrs = xattrsOf(this.#global);
    this.#globalList = [...this.#globalXattrs.values()];
    return undefined;
  }

  #member(block: Buffer, flag: string): Parsed | undefined {
    const { pax, longName, longLink } = this.#pending;
    const get = (keyword: string): string | undefined => pax.get(keyword) ?? this.#global.get(keyword);
    const sparse = get('GNU.sparse.major');
    const rawName = get('GNU.sparse.name') ?? get('path') ?? longName ?? ustarName(block);
    const name = normalName(rawName);
    if (name.length > MAX_NAME_BYTES) throw this.#error('ARCHIVE_DAMAGED', `a name of ${name.length} bytes`);

    const known = TYPES[flag];
    if (known === undefined)
      throw this.#error(
        'ARCHIVE_UNSUPPORTED',
        flag === 'S' ? 'a sparse file in the old GNU format' : `a member of type ${JSON.stringify(flag)}`,
        name,
      );
    // Before ustar a directory was a file whose name ends with a slash.
    const type: EntryType = known === 'file' && rawName.endsWith('/') ? 'directory' : known;
    const archivedBytes = this.#paxNumber(get('size'), 'size', name) ?? this.#number(block, 124, 12, 'size', name);
    if (type !== 'file' && archivedBytes !== 0)
      throw this.#error('ARCHIVE_DAMAGED', `a ${type} with ${archivedBytes} bytes of data`, name);

    const mtime = get('mtime');
    const mtimeNs =
      mtime === undefined
        ? BigInt(this.#number(block, 136, 12, 'mtime', name, true)) * 1_000_000_000n
        : parsePaxTime(mtime);
    if (mtimeNs === undefined) throw this.#error('ARCHIVE_DAMAGED', 'an mtime that is no number', name);

    const entry: Entry = {
      name,
      type,
      mode: this.#number(block, 100, 8, 'mode', name) & 0o7777,
      uid: this.#paxNumber(get('uid'), 'uid', name) ?? this.#number(block, 108, 8, 'uid', name),
      gid: this.#paxNumber(get('gid'), 'gid', name) ?? this.#number(block, 116, 8, 'gid', name),
      size: archivedBytes,
      mtimeNs,
    };
    if (type === 'symlink' || type === 'hardlink') {
      const raw = get('linkpath') ?? longLink ?? untilZero(block.toString('latin1', 157, 257));
      if (raw.length > MAX_NAME_BYTES)
        throw this.#error('ARCHIVE_DAMAGED', `the target of a link of ${raw.length} bytes`, name);
      entry.linkname = type === 'hardlink' ? normalName(raw) : Buffer.from(raw, 'latin1');
    }
    if (type === 'character-device' || type === 'block-device') {
      entry.devmajor = this.#number(block, 329, 8, 'devmajor', name);
      entry.devminor = this.#number(block, 337, 8, 'devminor', name);
    }
    const xattrs = this.#xattrs(pax);
    if (xattrs !== undefined) entry.xattrs = xattrs;
    this.#pending = nothingYet();

    if (sparse === undefined) {
      if (get('GNU.sparse.map') !== undefined || get('GNU.sparse.numblocks') !== undefined)
        throw this.#error('ARCHIVE_UNSUPPORTED', 'a sparse file in a format older than 1.0', name);
      return { kind: 'member', entry, storedBytes: archivedBytes };
    }
    const minor = get('GNU.sparse.minor');
    if (sparse !== '1' || minor !== '0' || type !== 'file')
      throw this.#error('ARCHIVE_UNSUPPORTED', `a sparse file in format ${sparse}.${minor ?? '?'}`, name);
    const realsize = this.#paxNumber(get('GNU.sparse.realsize'), 'GNU.sparse.realsize', name);
    if (realsize === undefined) throw this.#error('ARCHIVE_DAMAGED', 'a sparse file without its size', name);
    entry.size = realsize;
    this.#state = {
      step: 'map',
      entry,
      archivedBytes,
      map: new SparseMap(realsize, archivedBytes),
    };
    return undefined;
  }

  #map({ entry, archivedBytes, map }: Extract<State, { step: 'map' }>, block: Buffer): Parsed | undefined {
    const wrong = map.add(block);
    if (wrong !== undefined) throw this.#error('ARCHIVE_DAMAGED', wrong, entry.name);
    if (!map.isWhole) return undefined;
    entry.data = map.ranges;
    const storedBytes = storedSize(entry);
    if (storedBytes !== archivedBytes - map.bytes)
      throw this.#error('ARCHIVE_DAMAGED', 'a sparse map that does not fit its data', entry.name);
    this.#state = { step: 'header' };
    return { kind: 'member', entry, storedBytes };
  }

  /** What a member has, and what global headers give it; a list that may be shared with other members. */
  #xattrs(pax: ReadonlyMap<string, string>): Xattr[] | undefined {
    const own = xattrsOf(pax);
    if (own.size === 0) return this.#globalXattrs.size === 0 ? undefined : this.#globalList;
    return [...new Map([...this.#globalXattrs, ...own]).values()];
  }

  #paxNumber(text: string | undefined, field: string, name: Buffer): number | undefined {
    const value = text === undefined ? undefined : paxNumber(text);
    if (value !== undefined && Number.isNaN(value))
      throw this.#error('ARCHIVE_DAMAGED', `an impossible ${field}`, name);
    return value;
  }

  #number(block: Buffer, at: number, width: number, field: string, name?: Buffer, negative = false): number {
    const value = fieldNumber(block, at, width);
    if (!Number.isSafeInteger(value) || (value < 0 && !negative))
      throw this.#error('ARCHIVE_DAMAGED', `an impossible ${field}`, name);
    return value;
  }

  #error(code: ParseErrorCode, what: string, name?: Buffer): ArchiveError {
    return new ArchiveError(code, {
      ...(this.#archivePath === undefined ? {} : { archivePath: this.#archivePath }),
      ...(name === undefined ? {} : { member: printable(name) }),
      ...(this.#offset === undefined ? {} : { offset: this.#offset }),
      what,
    });
  }
}

function nothingYet(): Pending {
  return { seen: '', bytes: 0, pax: NOTHING };
}

/** By their keywords. */
function xattrsOf(pax: ReadonlyMap<string, string>): Map<string, Xattr> {
  const xattrs = new Map<string, Xattr>();
  for (const [keyword, value] of pax) {
    if (!keyword.startsWith(XATTR)) continue;
    const name = Buffer.from(unescapeKeyword(keyword.slice(XATTR.length)), 'latin1');
    xattrs.set(keyword, { name, value: Buffer.from(value, 'latin1') });
  }
  return xattrs;
}
