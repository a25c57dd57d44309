/**
 * Reads a BoltDB file: a B+tree of pages in which a value can be a bucket, a tree of its own.
 * Source: go.etcd.io/bbolt v1.3: page.go, bucket.go, db.go (meta), node.go.
 */

const META_MAGIC = 0xed0cdaed;
const PAGE_HEADER_BYTES = 16;
const ELEMENT_BYTES = 16;
const BUCKET_HEADER_BYTES = 16;
const BRANCH = 0x01;
const LEAF = 0x02;
const IS_BUCKET = 0x01;
/** More levels than any file can have: a loop in a damaged one must end. */
const MAX_DEPTH = 32;

export class BoltError extends Error {}

/** The value at a path of buckets and a last key, or undefined. @throws BoltError when the bytes are no BoltDB */
export function boltValue(db: Buffer, path: readonly string[]): Buffer | undefined {
  const found = lookUp(db, path);
  return found === undefined || found.isBucket ? undefined : found.value;
}

/** The keys and values (buckets left out) of the bucket at a path, or undefined when there is none. */
export function boltBucket(db: Buffer, path: readonly string[]): Map<string, Buffer> | undefined {
  const found = lookUp(db, path);
  if (found === undefined || !found.isBucket) return undefined;
  const pageBytes = newestMeta(db).pageBytes;
  return new Map(
    [...leaves(rootPage(db, pageBytes, found.value), db, pageBytes, 0)]
      .filter((leaf) => !leaf.isBucket)
      .map((leaf) => [leaf.key.toString(), leaf.value]),
  );
}

/** The number of the newest transaction in the file: another one means that it was written meanwhile. */
export function boltTransaction(db: Buffer): bigint {
  return newestMeta(db).transaction;
}

interface Leaf {
  key: Buffer;
  value: Buffer;
  isBucket: boolean;
}

function lookUp(db: Buffer, path: readonly string[]): Leaf | undefined {
  const { pageBytes, rootPageId } = newestMeta(db);
  let page = pageAt(db, pageBytes, rootPageId);
  let found: Leaf | undefined;
  for (const key of path) {
    if (found !== undefined) {
      if (!found.isBucket) return undefined;
      page = rootPage(db, pageBytes, found.value);
    }
    found = findLeaf(page, Buffer.from(key), db, pageBytes);
    if (found === undefined) return undefined;
  }
  return found;
}

/** A bucket's value names its root page, or holds it when it is small. */
function rootPage(db: Buffer, pageBytes: number, bucket: Buffer): Buffer {
  const pageId = Number(bucket.readBigUInt64LE(0));
  return pageId === 0 ? bucket.subarray(BUCKET_HEADER_BYTES) : pageAt(db, pageBytes, pageId);
}

function newestMeta(db: Buffer): { pageBytes: number; rootPageId: number; transaction: bigint } {
  // The second meta page lies one page behind the first, whose size it names; 4096 where the first is damaged.
  const pageBytes = db.length >= 28 && db.readUInt32LE(16) === META_MAGIC ? db.readUInt32LE(24) : 4096;
  const metas = [0, pageBytes].flatMap((offset) => {
    const at = offset + PAGE_HEADER_BYTES;
    if (db.length < at + 64 || db.readUInt32LE(at) !== META_MAGIC) return [];
    if (fnv1a64(db.subarray(at, at + 56)) !== db.readBigUInt64LE(at + 56)) return [];
    return [
      {
        pageBytes: db.readUInt32LE(at + 8),
        rootPageId: Number(db.readBigUInt64LE(at + 16)),
        transaction: db.readBigUInt64LE(at + 48),
      },
    ];
  });
  const newest = metas.sort((a, b) => (a.transaction < b.transaction ? 1 : -1))[0];
  if (newest === undefined) throw new BoltError('is no BoltDB file');
  return newest;
}

function fnv1a64(bytes: Buffer): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  return hash;
}

function pageAt(db: Buffer, pageBytes: number, id: number): Buffer {
  const start = id * pageBytes;
  if (start + PAGE_HEADER_BYTES > db.length) throw new BoltError(`refers to page ${id}, which it does not have`);
  return db.subarray(start, start + pageBytes * (db.readUInt32LE(start + 12) + 1));
}

function findLeaf(page: Buffer, key: Buffer, db: Buffer, pageBytes: number): Leaf | undefined {
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const { flags, count } = header(page);
    if ((flags & LEAF) !== 0)
      return Array.from({ length: count }, (_, i) => leafAt(page, i)).find((leaf) => leaf.key.equals(key));
    if ((flags & BRANCH) === 0) break;
    const branches = Array.from({ length: count }, (_, i) => branchAt(page, i));
    const child = branches.findLast((branch) => branch.key.compare(key) <= 0);
    if (child === undefined) return undefined;
    page = pageAt(db, pageBytes, child.pageId);
  }
  throw new BoltError('has a page of an unknown kind');
}

function* leaves(page: Buffer, db: Buffer, pageBytes: number, depth: number): Generator<Leaf> {
  const { flags, count } = header(page);
  if (depth > MAX_DEPTH || (flags & (LEAF | BRANCH)) === 0) throw new BoltError('has a page of an unknown kind');
  for (let i = 0; i < count; i++) {
    if ((flags & LEAF) !== 0) yield leafAt(page, i);
    else yield* leaves(pageAt(db, pageBytes, branchAt(page, i).pageId), db, pageBytes, depth + 1);
  }
}

function header(page: Buffer): { flags: number; count: number } {
  return { flags: page.readUInt16LE(8), count: page.readUInt16LE(10) };
}

function leafAt(page: Buffer, i: number): Leaf {
  const at = PAGE_HEADER_BYTES + i * ELEMENT_BYTES;
  const start = at + page.readUInt32LE(at + 4);
  const keyEnd = start + page.readUInt32LE(at + 8);
  const end = keyEnd + page.readUInt32LE(at + 12);
  if (end > page.length) throw new BoltError('has an entry that is longer than its page');
  return {
    isBucket: (page.readUInt32LE(at) & IS_BUCKET) !== 0,
    key: page.subarray(start, keyEnd),
    value: page.subarray(keyEnd, end),
  };
}

function branchAt(page: Buffer, i: number): { key: Buffer; pageId: number } {
  const at = PAGE_HEADER_BYTES + i * ELEMENT_BYTES;
  const start = at + page.readUInt32LE(at);
  return { key: page.subarray(start, start + page.readUInt32LE(at + 4)), pageId: Number(page.readBigUInt64LE(at + 8)) };
}
