import { createHash, type Hash } from 'node:crypto';
import { ArchiveError } from '../format/archive-error.js';
import { bytesFromJson, printable } from '../format/byte-text.js';
import type { Entry, EntryType } from '../format/entry.js';
import {
  checksumLine,
  MANIFEST_JSON,
  MANIFEST_SHA256,
  MAX_MANIFEST_BYTES,
  MEMBERS_SHA256,
  parseManifest,
  type Manifest,
  type TreeRecord,
} from '../format/manifest.js';
import { NameTable, ROOT_NAME, unsafeName } from '../format/names.js';
import {
  ByteReader,
  nextHeader,
  readMember,
  truncated,
  walkMembers,
  type Member,
  type OpenArchive,
  type TarRange,
} from './reader.js';
import { isZero, TarParser } from '../format/tar-decode.js';
import { encodeHeader, END_OF_ARCHIVE, padding } from '../format/tar-encode.js';

/** Where a member is, without its metadata: small enough to keep for every member. */
export interface MemberPlace {
  type: EntryType;
  headerOffset: number;
  dataOffset: number;
  storedBytes: number;
}

/** A tree's place: for layout `members` its members, headers and all; for `nested` the tar that is its member's data. */
export interface TreePlace {
  record: TreeRecord;
  name: Buffer;
  range: TarRange;
}

/** An archive of which every byte has been checked. */
export interface VerifiedArchive {
  archive: OpenArchive;
  manifest: Manifest;
  /** By name, in latin1. */
  members: ReadonlyMap<string, MemberPlace>;
  trees: readonly TreePlace[];
}

export interface VerifyOptions {
  signal?: AbortSignal | undefined;
  /** Called about once a mebibyte. */
  onProgress?: ((progress: { bytes: number; totalBytes: number }) => void) | undefined;
}

/** Between two reads this much is hashed on the event loop: less than a millisecond with SHA instructions, three without. */
const CHUNK_BYTES = 256 * 1024;

/**
 * Checks everything, in one pass: each member's data against its SHA-256, all headers and padding against
 * theirs, the manifest against its own; names, links and order; that nothing follows the end. Any changed
 * bit of the (uncompressed) archive, and any missing end, is found.
 * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, FORMAT_TOO_NEW, UNSAFE_PATH, UNSAFE_LINK
 */
export async function verifyArchive(archive: OpenArchive, options: VerifyOptions = {}): Promise<VerifiedArchive> {
  const pass = new VerifyPass(archive, options);
  return pass.run();
}

class VerifyPass {
  readonly #archive: OpenArchive;
  readonly #options: VerifyOptions;
  readonly #bytes: ByteReader;
  readonly #parser: TarParser;
  readonly #names = new NameTable<MemberPlace>();
  /** Over the digests of the headers and padding of each member. */
  readonly #headers: Hash = createHash('sha256');
  /** The digests of the regular members, in order. */
  readonly #digests: Buffer[] = [];
  #dataBytes = 0;
  #lastProgress = 0;

  constructor(archive: OpenArchive, options: VerifyOptions) {
    this.#archive = archive;
    this.#options = options;
    this.#bytes = new ByteReader(archive, { start: 0, end: archive.bytes }, CHUNK_BYTES);
    this.#parser = new TarParser({ archivePath: archive.path });
  }

  async run(): Promise<VerifiedArchive> {
    this.#options.signal?.throwIfAborted();
    const listed = await this.#contents();
    const headersSha256 = this.#headers.digest('hex');
    const membersSha256 = await this.#compareList(listed.entry);
    const manifest = await this.#manifest();
    await this.#end();

    const { integrity } = manifest;
    const { path: archivePath } = this.#archive;
    const wrong = (member: string, what: string): ArchiveError =>
      new ArchiveError('ARCHIVE_DAMAGED', { archivePath, member, what });
    if (integrity.membersSha256 !== membersSha256)
      throw wrong(MEMBERS_SHA256, 'its SHA-256 is not the one in the manifest');
    if (integrity.headersSha256 !== headersSha256)
      throw new ArchiveError('ARCHIVE_DAMAGED', {
        archivePath,
        what: "the members' headers do not have the SHA-256 that is in the manifest: a name, a mode, an owner or a time was changed",
      });
    if (integrity.members !== this.#digests.length || integrity.bytes !== this.#dataBytes)
      throw wrong(
        MANIFEST_JSON,
        `it counts ${integrity.members} members with ${integrity.bytes} bytes, the archive has ${this.#digests.length} with ${this.#dataBytes}`,
      );
    return {
      archive: this.#archive,
      manifest,
      members: this.#names.members,
      trees: placeTrees(archivePath, manifest, this.#names.members),
    };
  }

  /** Everything before the list of members; returns the list's own header. */
  async #contents(): Promise<{ entry: Entry }> {
    for (;;) {
      const headerOffset = this.#bytes.offset;
      const blocks: Buffer[] = [];
      // Copied: whether these bytes belong to the headers' hash is known only when the name is.
      const parsed = await nextHeader(this.#parser, this.#bytes, (block) => blocks.push(Buffer.from(block)));
      if (parsed.kind === 'end') throw this.#notOurs();
      const { entry, storedBytes } = parsed;
      const name = entry.name.toString('latin1');
      const place = { type: entry.type, headerOffset, dataOffset: this.#bytes.offset, storedBytes };
      if (this.#bytes.offset + storedBytes + padding(storedBytes) > this.#archive.bytes)
        throw truncated(this.#archive, this.#bytes.range, entry.name);
      this.#checkName(entry, name, place);
      if (name === MEMBERS_SHA256) {
        this.#checkHeader(entry, blocks);
        return { entry };
      }
      const header = createHash('sha256');
      for (const block of blocks) header.update(block);
      await this.#data(entry, storedBytes, header);
      this.#headers.update(header.digest());
    }
  }

  #checkName(entry: Entry, name: string, place: MemberPlace): void {
    const facts = { archivePath: this.#archive.path, member: printable(entry.name) };
    const unsafe = name === ROOT_NAME ? 'an empty component in the path' : unsafeName(entry.name);
    if (unsafe !== undefined) throw new ArchiveError('UNSAFE_PATH', { ...facts, what: unsafe });
    if (name.startsWith('stillframe/') && name !== MEMBERS_SHA256)
      throw new ArchiveError('ARCHIVE_DAMAGED', { ...facts, what: 'it does not belong there' });
    const wrong = this.#names.add(name, place, entry.linkname?.toString('latin1'));
    if (wrong === undefined) return;
    if (entry.type === 'hardlink')
      throw new ArchiveError('UNSAFE_LINK', { ...facts, linkname: printable(entry.linkname ?? ''), what: wrong });
    throw new ArchiveError('UNSAFE_PATH', { ...facts, what: wrong });
  }

  async #data(entry: Entry, storedBytes: number, header: Hash): Promise<void> {
    if (entry.type !== 'file') return;
    const hash = createHash('sha256');
    await this.#take(storedBytes, entry.name, (part) => hash.update(part));
    await this.#take(padding(storedBytes), entry.name, (part) => header.update(part));
    this.#digests.push(hash.digest());
    this.#dataBytes += storedBytes;
  }

  async #take(count: number, name: Buffer, onBytes: (part: Buffer) => void): Promise<void> {
    for (let left = count; left > 0;) {
      if (this.#bytes.buffered === 0) {
        this.#options.signal?.throwIfAborted();
        if (!(await this.#bytes.fill(1))) throw truncated(this.#archive, this.#bytes.range, name);
        this.#progress();
      }
      const part = this.#bytes.take(Math.min(left, this.#bytes.buffered));
      onBytes(part);
      left -= part.length;
    }
  }

  #progress(): void {
    const { offset } = this.#bytes;
    if (offset - this.#lastProgress < 1024 * 1024) return;
    this.#lastProgress = offset;
    this.#options.onProgress?.({ bytes: offset, totalBytes: this.#archive.bytes });
  }

  /** The list must say of each regular member what was just found. The first line that does not names the member. */
  async #compareList(entry: Entry): Promise<string> {
    const found = await this.#read(entry, entry.size);
    let at = 0;
    let index = 0;
    for (const [name, { type }] of this.#names.members) {
      if (type !== 'file' || name === MEMBERS_SHA256) continue;
      const expected = checksumLine(this.#digests[index++] as Buffer, Buffer.from(name, 'latin1'));
      if (!found.subarray(at, at + expected.length).equals(expected)) {
        throw new ArchiveError('ARCHIVE_DAMAGED', {
          archivePath: this.#archive.path,
          member: printable(Buffer.from(name, 'latin1')),
          what: `its data does not have the SHA-256 that ${MEMBERS_SHA256} lists`,
        });
      }
      at += expected.length;
    }
    if (at !== found.length)
      throw new ArchiveError('ARCHIVE_DAMAGED', {
        archivePath: this.#archive.path,
        member: MEMBERS_SHA256,
        what: 'it lists members that are not there',
      });
    return createHash('sha256').update(found).digest('hex');
  }

  async #manifest(): Promise<Manifest> {
    const json = await this.#ownMember(MANIFEST_JSON);
    const sum = await this.#ownMember(MANIFEST_SHA256);
    if (!sum.equals(checksumLine(createHash('sha256').update(json).digest(), Buffer.from(MANIFEST_JSON)))) {
      throw new ArchiveError('ARCHIVE_DAMAGED', {
        archivePath: this.#archive.path,
        member: MANIFEST_JSON,
        what: `it does not have the SHA-256 in ${MANIFEST_SHA256}`,
      });
    }
    return parseManifest(json, this.#archive.path);
  }

  /** The next member, which must have this name. */
  async #ownMember(name: string): Promise<Buffer> {
    const headerOffset = this.#bytes.offset;
    const blocks: Buffer[] = [];
    const parsed = await nextHeader(this.#parser, this.#bytes, (block) => blocks.push(Buffer.from(block)));
    if (parsed.kind === 'end' || parsed.entry.name.toString('latin1') !== name)
      throw new ArchiveError('ARCHIVE_DAMAGED', {
        archivePath: this.#archive.path,
        member: name,
        what: 'it is not where it must be',
        offset: headerOffset,
      });
    this.#checkHeader(parsed.entry, blocks);
    const { type } = parsed.entry;
    this.#names.add(name, { type, headerOffset, dataOffset: this.#bytes.offset, storedBytes: parsed.storedBytes });
    return this.#read(parsed.entry, MAX_MANIFEST_BYTES);
  }

  /** No hash covers the headers of the last members: each must be one block, byte for byte what we would write. */
  #checkHeader(entry: Entry, blocks: readonly Buffer[]): void {
    const [block] = blocks;
    if (blocks.length !== 1 || block === undefined || entry.type !== 'file' || !encodeHeader(entry).equals(block)) {
      throw new ArchiveError('ARCHIVE_DAMAGED', {
        archivePath: this.#archive.path,
        member: printable(entry.name),
        what: 'its header is not the plain one that it must have',
      });
    }
  }

  async #read(entry: Entry, maxBytes: number): Promise<Buffer> {
    const { name, size } = entry;
    if (size > maxBytes)
      throw new ArchiveError('ARCHIVE_DAMAGED', {
        archivePath: this.#archive.path,
        member: printable(name),
        what: `it has ${size} bytes`,
      });
    if (this.#bytes.offset + size + padding(size) > this.#archive.bytes)
      throw truncated(this.#archive, this.#bytes.range, name);
    const parts: Buffer[] = [];
    await this.#take(size, name, (part) => parts.push(Buffer.from(part)));
    await this.#take(padding(size), name, (part) => {
      if (!isZero(part))
        throw new ArchiveError('ARCHIVE_DAMAGED', {
          archivePath: this.#archive.path,
          member: printable(name),
          what: 'its padding was changed',
        });
    });
    return Buffer.concat(parts);
  }

  /** Two zero blocks, and nothing but zeros after them. */
  async #end(): Promise<void> {
    const start = this.#bytes.offset;
    const { bytes: size, path: archivePath } = this.#archive;
    if (size - start < END_OF_ARCHIVE.length) throw truncated(this.#archive, this.#bytes.range);
    await this.#take(size - start, Buffer.from('the end'), (part) => {
      if (!isZero(part))
        throw new ArchiveError('ARCHIVE_DAMAGED', {
          archivePath,
          what: 'something follows its last member',
          offset: start,
        });
    });
    this.#options.onProgress?.({ bytes: size, totalBytes: size });
  }

  #notOurs(): ArchiveError {
    return new ArchiveError('NOT_AN_ARCHIVE', {
      archivePath: this.#archive.path,
      what: `a tar without ${MEMBERS_SHA256}`,
    });
  }
}

/** Where each tree of the manifest is; a tree's members lie side by side. */
function placeTrees(archivePath: string, manifest: Manifest, members: ReadonlyMap<string, MemberPlace>): TreePlace[] {
  const wrong = (name: Buffer, what: string): ArchiveError =>
    new ArchiveError('ARCHIVE_DAMAGED', { archivePath, member: printable(name), what });
  const trees = manifest.trees.map((record): TreePlace => {
    const name = bytesFromJson(record.name);
    const place = members.get(name.toString('latin1'));
    if (place === undefined) throw wrong(name, 'the manifest lists a tree that is not there');
    if (record.layout === 'nested' && place.type !== 'file') throw wrong(name, 'the manifest says that it is a tar');
    const { headerOffset, dataOffset, storedBytes } = place;
    return {
      record,
      name,
      range:
        record.layout === 'nested'
          ? { start: dataOffset, end: dataOffset + storedBytes }
          : { start: headerOffset, end: headerOffset },
    };
  });

  // One walk over the members in their order: each belongs to the tree that its name is in, and closes it when it is not.
  const byName = new Map(trees.map((tree) => [tree.name.toString('latin1'), { tree, entries: 0, closed: false }]));
  let current: { name: string; tree: TreePlace; entries: number; closed: boolean } | undefined;
  for (const [name, place] of members) {
    const starts = byName.get(name);
    if (current !== undefined && !(name === current.name || name.startsWith(`${current.name}/`))) {
      current.tree.range.end = place.headerOffset;
      current = undefined;
    }
    if (starts !== undefined) {
      if (current !== undefined) throw wrong(starts.tree.name, 'a tree within a tree');
      if (starts.tree.record.layout === 'members') current = Object.assign(starts, { name });
    }
    if (current !== undefined) current.entries++;
  }
  for (const { tree, entries } of byName.values()) {
    if (tree.record.layout === 'members' && tree.record.entries !== entries)
      throw wrong(
        tree.name,
        `the manifest says that the tree has ${tree.record.entries} entries, the archive has ${entries} side by side`,
      );
  }
  return trees;
}

/** What an archive says about itself, nothing of it proven. */
export interface Inspection {
  /** Undefined for an archive that is not ours. */
  manifest: Manifest | undefined;
  members: Member[];
}

/**
 * Lists the members and reads the manifest, without reading, and so without checking, any other data.
 * @throws ArchiveError NOT_AN_ARCHIVE, ARCHIVE_TRUNCATED, ARCHIVE_DAMAGED, FORMAT_TOO_NEW
 */
export async function inspectArchive(
  archive: OpenArchive,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<Inspection> {
  const members: Member[] = [];
  let manifest: Manifest | undefined;
  for await (const member of walkMembers(archive)) {
    options.signal?.throwIfAborted();
    members.push(member);
    if (member.entry.name.equals(Buffer.from(MANIFEST_JSON)) && member.entry.type === 'file')
      manifest = parseManifest(await readMember(archive, member, MAX_MANIFEST_BYTES), archive.path);
  }
  return { manifest, members };
}
