import { createHash } from 'node:crypto';
import { ArchiveError } from '../format/archive-error.js';
import { printable } from '../format/byte-text.js';
import type { Entry } from '../format/entry.js';
import {
  checksumLine,
  MANIFEST_JSON,
  MANIFEST_SHA256,
  MAX_MANIFEST_BYTES,
  MEMBERS_SHA256,
  parseManifest,
  type Manifest,
} from '../format/manifest.js';
import { NameCheck, ROOT_NAME } from '../format/names.js';
import { TarParser } from '../format/tar-decode.js';
import { encodeHeader, END_OF_ARCHIVE, padding } from '../format/tar-encode.js';
import { isZero } from '../format/tar-fields.js';
import { MAX_AFTER_END_BYTES, tooMuchAfterEnd } from './chunked-members.js';
import { truncated } from './content.js';
import { takeTurns } from '../../yield-to-loop.js';
import { firstDifference } from './first-difference.js';
import type { ManifestAhead } from './manifest-at-end.js';
import type { MemberFile } from './member-batch.js';
import { MemberPass } from './member-pass.js';
import { NameSet } from './name-set.js';
import { Places, placeTrees, type MemberPlace, type TreePlace } from './places.js';
import { ByteReader, nextHeader, type Member, type OpenArchive } from './reader.js';

/** An archive of which every byte has been checked. */
export interface VerifiedArchive {
  archive: OpenArchive;
  manifest: Manifest;
  /**
   * What no directory of the archive holds, by name in latin1: documents, single files, and directories with all below
   * them.
   */
  members: ReadonlyMap<string, MemberPlace>;
  trees: readonly TreePlace[];
}

export interface VerifyOptions {
  signal?: AbortSignal | undefined;
  /** Called about once a mebibyte. */
  onProgress?: ((progress: { bytes: number; totalBytes: number }) => void) | undefined;
  /**
   * Called for each member once its name is known to be safe and new; returns the file that its data goes into, which
   * is then closed, whatever happens. Nothing about the archive is proven before all of it is.
   */
  place?: ((member: Member) => MemberFile | undefined | Promise<MemberFile | undefined>) | undefined;
  /** The manifest as it was read before: one that was acted upon. With another the archive is refused. */
  ahead?: ManifestAhead | undefined;
}

/** Headers are read in pieces of this size, with the small members between them. */
const CHUNK_BYTES = 64 * 1024;

/**
 * Checks everything, in one pass, on several threads: each member's data against its SHA-256, all headers and padding
 * against theirs, the manifest against its own; names, links and order; that nothing follows the end. Any changed
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
  readonly #safe = new NameCheck();
  readonly #names = new NameSet();
  readonly #places = new Places();
  readonly #pass: MemberPass;
  #lastProgress = 0;

  constructor(archive: OpenArchive, options: VerifyOptions) {
    this.#archive = archive;
    this.#options = options;
    this.#bytes = new ByteReader(archive, { start: 0, end: archive.bytes }, CHUNK_BYTES);
    this.#parser = new TarParser({ archivePath: archive.path, refuseGlobals: true });
    this.#pass = new MemberPass(archive, { signal: options.signal, onProgress: (offset) => this.#progress(offset) });
  }

  async run(): Promise<VerifiedArchive> {
    this.#options.signal?.throwIfAborted();
    const { list, start } = await this.#contents().finally(() => this.#pass.settle());
    const headersSha256 = this.#pass.headers.digest('hex');
    const membersSha256 = await this.#compareList(list, start);
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
    if (integrity.members !== this.#pass.members || integrity.bytes !== this.#pass.dataBytes)
      throw wrong(
        MANIFEST_JSON,
        `it counts ${integrity.members} members with ${integrity.bytes} bytes, the archive has ${this.#pass.members} with ${this.#pass.dataBytes}`,
      );
    const members = this.#places.byName;
    return { archive: this.#archive, manifest, members, trees: placeTrees(archivePath, manifest, members) };
  }

  /** Everything before the list of members; returns the list's own entry, and where its header begins. */
  async #contents(): Promise<{ list: Entry; start: number }> {
    let turn = performance.now();
    for (;;) {
      turn = await takeTurns(turn, this.#options.signal);
      const headerOffset = this.#bytes.offset;
      const blocks: Buffer[] = [];
      // Copied: whether these bytes belong to the headers' hash is known only when the name is.
      const parsed = await nextHeader(this.#parser, this.#bytes, (block) => blocks.push(Buffer.from(block)));
      if (parsed.kind === 'end') throw this.#notOurs();
      const { entry, storedBytes } = parsed;
      const dataOffset = this.#bytes.offset;
      const end = dataOffset + storedBytes + padding(storedBytes);
      if (end > this.#archive.bytes) throw truncated(this.#archive.path, this.#archive.bytes, entry.name);
      const name = entry.name.toString('latin1');
      this.#checkName(entry, name);
      if (name === MEMBERS_SHA256) {
        this.#checkHeader(entry, blocks);
        await this.#pass.finish();
        return { list: entry, start: headerOffset };
      }
      this.#places.add(name, { type: entry.type, headerOffset, dataOffset, storedBytes, end });
      const member = { entry, headerOffset, dataOffset, storedBytes };
      const file = this.#options.place?.(member);
      this.#pass.add(member, end, file instanceof Promise ? await file : file);
      this.#bytes.skip(end - dataOffset);
      if (this.#pass.isFull) await this.#pass.start();
    }
  }

  #checkName(entry: Entry, name: string): void {
    const facts = (): { archivePath: string; member: string } => ({
      archivePath: this.#archive.path,
      member: printable(entry.name),
    });
    // As the first member of what `tar -C DIR .` writes, such as another engine's archive.
    if (name === ROOT_NAME) throw new ArchiveError('NOT_AN_ARCHIVE', { ...facts(), what: 'a tar with a member "./"' });
    const unsafe = this.#safe.unsafe(entry.name);
    if (unsafe !== undefined) throw new ArchiveError('UNSAFE_PATH', { ...facts(), what: unsafe });
    if (name.startsWith('stillframe/') && name !== MEMBERS_SHA256)
      throw new ArchiveError('ARCHIVE_DAMAGED', { ...facts(), what: 'it does not belong there' });
    const wrong = this.#names.add(entry.name, entry.type, entry.linkname);
    if (wrong === undefined) return;
    if (entry.type === 'hardlink')
      throw new ArchiveError('UNSAFE_LINK', { ...facts(), linkname: printable(entry.linkname ?? ''), what: wrong });
    throw new ArchiveError('UNSAFE_PATH', { ...facts(), what: wrong });
  }

  async #take(count: number, name: Buffer, onBytes: (part: Buffer) => void): Promise<void> {
    for (let left = count; left > 0;) {
      if (this.#bytes.buffered === 0) {
        this.#options.signal?.throwIfAborted();
        if (!(await this.#bytes.fill(1))) throw truncated(this.#archive.path, this.#archive.bytes, name);
        this.#progress(this.#bytes.offset);
      }
      const part = this.#bytes.take(Math.min(left, this.#bytes.buffered));
      onBytes(part);
      left -= part.length;
    }
  }

  #progress(offset: number): void {
    if (offset - this.#lastProgress < 1024 * 1024) return;
    this.#lastProgress = offset;
    this.#options.onProgress?.({ bytes: offset, totalBytes: this.#archive.bytes });
  }

  /** The list must be, byte for byte, what the members' lines make; never held whole, since it may have any length. */
  async #compareList(list: Entry, start: number): Promise<string> {
    const expected = this.#pass.list.digest();
    const found = createHash('sha256');
    const from = this.#bytes.offset;
    // Of another length it is another list: which may be longer than anybody wants to read.
    if (list.size === this.#pass.listBytes) {
      await this.#take(list.size, list.name, (part) => found.update(part));
      if (found.digest().equals(expected)) {
        await this.#zeros(padding(list.size), list.name);
        return expected.toString('hex');
      }
    }
    const listed = { start: from, end: from + list.size };
    throw await firstDifference(this.#archive, { start: 0, end: start }, listed, this.#options.signal);
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
    if (this.#options.ahead?.bytes.equals(json) === false)
      throw new ArchiveError('ARCHIVE_DAMAGED', {
        archivePath: this.#archive.path,
        member: MANIFEST_JSON,
        what: 'it has changed while the archive was read',
      });
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
      throw truncated(this.#archive.path, this.#archive.bytes, name);
    const parts: Buffer[] = [];
    await this.#take(size, name, (part) => parts.push(Buffer.from(part)));
    await this.#zeros(padding(size), name);
    return Buffer.concat(parts);
  }

  async #zeros(count: number, name: Buffer): Promise<void> {
    await this.#take(count, name, (part) => {
      if (!isZero(part))
        throw new ArchiveError('ARCHIVE_DAMAGED', {
          archivePath: this.#archive.path,
          member: printable(name),
          what: 'its padding was changed',
        });
    });
  }

  /** Two zero blocks, and nothing but zeros after them. */
  async #end(): Promise<void> {
    const start = this.#bytes.offset;
    const { bytes: size, path: archivePath } = this.#archive;
    if (size - start < END_OF_ARCHIVE.length) throw truncated(archivePath, size);
    if (size - start > MAX_AFTER_END_BYTES) throw tooMuchAfterEnd(archivePath, start);
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
