/** Archives made member by member, right or wrong on purpose, for the tests of the reading side. */
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Entry } from '../../../src/archive/format/entry.js';
import {
  checksumLine,
  encodeManifest,
  FORMAT_VERSION,
  MANIFEST_JSON,
  MANIFEST_SHA256,
  MEMBERS_SHA256,
  type TreeRecord,
} from '../../../src/archive/format/manifest.js';
import { encodeHeader, END_OF_ARCHIVE, padding } from '../../../src/archive/format/tar-encode.js';

/** A member; `data` is what is stored, for a sparse file its ranges only. */
export type FixtureMember = Partial<Omit<Entry, 'name' | 'linkname'>> & {
  name: string | Buffer;
  linkname?: string | Buffer;
  stored?: Buffer | string;
};

export function toEntry({ name, linkname, stored, ...fields }: FixtureMember): Entry {
  const type = fields.type ?? 'file';
  return {
    type,
    mode: type === 'directory' ? 0o755 : 0o644,
    uid: 0,
    gid: 0,
    mtimeNs: 1_700_000_000_123_456_789n,
    size: type === 'file' ? Buffer.byteLength(stored ?? '') : 0,
    ...fields,
    name: Buffer.from(name),
    ...(linkname === undefined ? {} : { linkname: Buffer.from(linkname) }),
  };
}

/** A header as it is asked for, even where `encodeHeader` would refuse: absolute and empty names. */
export function hostileHeader(member: FixtureMember): Buffer {
  const entry = toEntry(member);
  const header = encodeHeader({
    ...entry,
    name: Buffer.from('x'),
    mtimeNs: 0n,
    ...(entry.linkname === undefined ? {} : { linkname: Buffer.from('x') }),
  });
  header.fill(0, 0, 100).set(entry.name, 0);
  if (entry.linkname !== undefined) header.fill(0, 157, 257).set(entry.linkname, 157);
  return summed(header);
}

/** The header of a member of this type that claims to have so many bytes. */
export function claimingHeader(flag: string, bytes: number): Buffer {
  const header = encodeHeader(toEntry({ name: 'x', size: bytes, mtimeNs: 0n }));
  header.write(flag, 156, 'latin1');
  return summed(header);
}

/** The checksum of a header block is right again. */
function summed(block: Buffer): Buffer {
  block.fill(0x20, 148, 156);
  const sum = block.reduce((all, byte) => all + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0`, 148, 'latin1');
  return block;
}

export function tarOf(
  members: readonly FixtureMember[],
  header: (member: FixtureMember) => Buffer = (m) => encodeHeader(toEntry(m)),
): Buffer {
  const parts = members.flatMap((member) => {
    const stored = Buffer.from(member.stored ?? '');
    return [header(member), stored, Buffer.alloc(padding(stored.length))];
  });
  return Buffer.concat([...parts, END_OF_ARCHIVE]);
}

export function tree(name: string, entries: number, layout: TreeRecord['layout'] = 'members'): TreeRecord {
  return { name, source: `/${name}`, layout, entries, bytes: 0, skippedSockets: [] };
}

/** A complete archive of these members, with the lists and hashes that prove it. */
export function archiveOf(
  members: readonly FixtureMember[],
  trees: TreeRecord[],
  header?: (member: FixtureMember) => Buffer,
  subject: Record<string, unknown> = { test: true },
): Buffer {
  const parts: Buffer[] = [];
  const lines: Buffer[] = [];
  const headers = createHash('sha256');
  let bytes = 0;
  for (const member of members) {
    const entry = toEntry(member);
    const head = header === undefined ? encodeHeader(entry) : header(member);
    const stored = Buffer.from(member.stored ?? '');
    const pad = Buffer.alloc(padding(stored.length));
    headers.update(sha256(Buffer.concat([head, pad])));
    parts.push(head, stored, pad);
    if (entry.type !== 'file') continue;
    lines.push(checksumLine(sha256(stored), entry.name));
    bytes += stored.length;
  }
  const list = Buffer.concat(lines);
  const integrity = {
    members: lines.length,
    bytes,
    membersSha256: sha256(list).toString('hex'),
    headersSha256: headers.digest('hex'),
  };
  const manifest = encodeManifest({
    format: 'stillframe',
    version: FORMAT_VERSION,
    integrity,
    trees,
    subject,
  });
  const last: [string, Buffer][] = [
    [MEMBERS_SHA256, list],
    [MANIFEST_JSON, manifest],
    [MANIFEST_SHA256, checksumLine(sha256(manifest), Buffer.from(MANIFEST_JSON))],
  ];
  for (const [name, data] of last)
    parts.push(
      encodeHeader(toEntry({ name, stored: data, mode: 0o600, mtimeNs: 1_700_000_000_000_000_000n })),
      data,
      Buffer.alloc(padding(data.length)),
    );
  return Buffer.concat([...parts, END_OF_ARCHIVE]);
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}

/** A directory of its own that is gone afterwards. */
export async function withScratch<T>(act: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'stillframe-test-'));
  try {
    return await act(dir);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

export async function writeArchive(dir: string, bytes: Buffer, name = 'archive.tar'): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, bytes);
  return path;
}
