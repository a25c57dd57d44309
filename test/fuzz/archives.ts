import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { file_entry, pstree_entry } from '../../src/criu/generated/criu.js';
import {
  forge,
  treeSubject,
  containerSubject,
  tarOf,
  tree,
  type ForgedMember,
  type Forgery,
} from '../fixtures/forge-archive.js';

/** An archive, and whether it is to be compressed. */
const packed = (bytes: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> =>
  fc
    .tuple(bytes, fc.integer({ min: 0, max: 9 }))
    .map(([tar, kind]) => (kind === 0 ? gzipSync(tar, { level: 1 }) : tar));

/** Single bytes, whole blocks, and the end. */
function mutated(bytes: Buffer): fc.Arbitrary<Buffer> {
  const at = fc.nat({ max: Math.max(bytes.length - 1, 0) });
  const block = at.map((offset) => offset - (offset % 512));
  const change = fc.oneof(
    fc.record({ at, byte: fc.nat({ max: 255 }) }).map((c) => (b: Buffer) => void (b[c.at] = c.byte)),
    fc
      .record({ at, bit: fc.nat({ max: 7 }) })
      .map((c) => (b: Buffer) => void (b[c.at] = (b[c.at] ?? 0) ^ (1 << c.bit))),
    fc
      .record({ from: block, to: block })
      .map((c) => (b: Buffer) => void b.copy(b, c.to, c.from, Math.min(c.from + 512, b.length))),
    fc
      .record({ from: block, to: block })
      .map((c) => (b: Buffer) => void b.fill(0, c.to, Math.min(c.to + 512, b.length))),
    fc
      .record({
        at,
        text: fc.constantFrom('../', '/', '\0', '\xff\xff\xff\xff', '77777777777', '\x80\0\0\0\0\0\0\x10'),
      })
      .map((c) => (b: Buffer) => void b.write(c.text, c.at, 'latin1')),
  );
  return fc
    .tuple(fc.array(change, { minLength: 1, maxLength: 6 }), fc.option(at, { freq: 6 }))
    .map(([changes, end]) => {
      const copy = Buffer.from(bytes);
      for (const act of changes) act(copy);
      return end === null ? copy : copy.subarray(0, end);
    });
}

/** Header blocks whose checksums are right again: else a header that was changed would not be read further. */
function summed(head: Buffer): Buffer {
  for (let at = 0; at + 512 <= head.length; at += 512) {
    const block = head.subarray(at, at + 512);
    if (block.toString('latin1', 257, 262) !== 'ustar') continue;
    block.fill(0x20, 148, 156);
    let sum = 0;
    for (const byte of block) sum += byte;
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  }
  return head;
}

/** Values that a field of a document may have instead of its own. */
const anything = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    0,
    -1,
    1e300,
    '',
    '/',
    '..',
    '\0',
    '\x1b[2J',
    [],
    {},
    [null],
    { base64: '!' },
    { toString: 1 },
    true,
  ),
  fc.jsonValue({ maxDepth: 3 }),
);

/** A JSON value of which something, somewhere, is something else. */
function altered(value: unknown): fc.Arbitrary<unknown> {
  const paths: string[][] = [];
  const walk = (node: unknown, path: string[]): void => {
    paths.push(path);
    if (typeof node !== 'object' || node === null) return;
    for (const [key, child] of Object.entries(node)) walk(child, [...path, key]);
  };
  walk(value, []);
  return fc
    .tuple(fc.array(fc.constantFrom(...paths), { maxLength: 2 }), anything)
    .map(([chosen, other]) => chosen.reduce((result, path) => replaced(result, path, other), value));
}

function replaced(node: unknown, [key, ...rest]: string[], other: unknown): unknown {
  if (key === undefined) return other;
  if (typeof node !== 'object' || node === null) return node;
  const copy = Array.isArray(node) ? [...(node as unknown[])] : { ...node };
  (copy as Record<string, unknown>)[key] = replaced((copy as Record<string, unknown>)[key], rest, other);
  return copy;
}

/** A real archive, changed: its bytes as they are, or its parts with right hashes around them again. */
export function mutatedArchives(raw: Buffer, parts: Required<Forgery>): fc.Arbitrary<Buffer> {
  const index = fc.nat({ max: parts.members.length - 1 });
  const member = (at: number, change: (member: ForgedMember) => ForgedMember): Forgery => ({
    ...parts,
    members: parts.members.map((m, i) => (i === at ? change(m) : m)),
  });
  const asData = (m: ForgedMember): Buffer => Buffer.from(m.stored ?? '');
  return packed(
    fc.oneof(
      mutated(raw),
      index.chain((at) =>
        mutated(Buffer.from(parts.members[at]?.head ?? '')).map((head) =>
          forge(member(at, (m) => ({ ...m, head: summed(padded(head)) }))),
        ),
      ),
      index.chain((at) =>
        // Its length stays: the header says it.
        mutated(asData(parts.members[at] ?? { name: '' })).map((stored) =>
          forge(
            member(at, (m) => ({
              ...m,
              stored: Buffer.concat([stored, Buffer.alloc(asData(m).length)]).subarray(0, asData(m).length),
            })),
          ),
        ),
      ),
      fc.tuple(index, index).map(([from, to]) => {
        const members = [...parts.members];
        members.splice(to, 0, parts.members[from] as ForgedMember);
        return forge({ ...parts, members });
      }),
      altered(parts.subject).map((subject) => forge({ ...parts, subject: subject as Record<string, unknown> })),
      altered(parts.trees).map((trees) => forge({ ...parts, trees: trees as Required<Forgery>['trees'] })),
    ),
  );
}

function padded(head: Buffer): Buffer {
  return Buffer.concat([head, Buffer.alloc((512 - (head.length % 512)) % 512)]);
}

const harmless = fc.constantFrom('a', 'b', 'c', 'etc', 'out', 'up', 'file', 'dir');
const odd = fc.constantFrom('..', '.', '', 'x'.repeat(255), '\x1b]0;x\x07', '\xff');
const parts = (component: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.array(component, { minLength: 1, maxLength: 4 }).map((names) => names.join('/'));
const path = fc.oneof(
  { weight: 16, arbitrary: parts(harmless) },
  { weight: 1, arbitrary: parts(fc.oneof(harmless, odd)) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('/', '/tmp', 'a/'.repeat(2000), 'out/file', '../outside/file', '/proc/self/mem'),
  },
);
const type = fc.constantFrom(
  'file',
  'file',
  'directory',
  'directory',
  'symlink',
  'hardlink',
  'fifo',
  'character-device',
  'block-device',
);

/** Below `under`, or wherever the name leads. */
function members(under: string): fc.Arbitrary<ForgedMember[]> {
  const one = fc
    .record({
      name: path,
      type,
      linkname: path,
      mode: fc.constantFrom(0o644, 0o755, 0, 0o7777),
      uid: fc.constantFrom(0, 0, 0, 0, 0, 1000, 0xffffffff, 2 ** 40),
      stored: fc.constantFrom('', 'data', 'x'.repeat(3000)),
      xattrs: fc.constantFrom(undefined, undefined, [
        { name: Buffer.from('user.a'), value: Buffer.alloc(300) },
        { name: Buffer.from('x'), value: Buffer.alloc(0) },
      ]),
      sparse: fc.boolean(),
    })
    .map(({ name, linkname, stored, sparse, xattrs, ...rest }) => {
      const isFile = rest.type === 'file';
      return {
        ...rest,
        name: Buffer.from(under === '' ? name : `${under}/${name}`, 'latin1'),
        ...(rest.type.endsWith('link')
          ? {
              linkname: Buffer.from(
                under === '' || rest.type === 'symlink' ? linkname : `${under}/${linkname}`,
                'latin1',
              ),
            }
          : {}),
        ...(rest.type.endsWith('device') ? { devmajor: 1, devminor: 3 } : {}),
        ...(xattrs === undefined ? {} : { xattrs }),
        ...(isFile ? { stored } : {}),
        ...(isFile && sparse && stored.length > 2048
          ? { stored: stored.slice(0, 512), size: 1 << 20, data: [{ offset: 4096, length: 512 }] }
          : {}),
      } as ForgedMember;
    });
  return fc.array(one, { maxLength: 6 });
}

/** CRIU's images that a restore reads before CRIU does. */
const images = fc
  .record({
    pids: fc.array(fc.integer({ min: 900_000, max: 2 ** 22 }), { maxLength: 3 }),
    file: fc.option(path, { freq: 2 }),
    strange: fc.constantFrom<ForgedMember[]>(
      [],
      [],
      [],
      [],
      [],
      [],
      [{ name: 'checkpoint/tty-info.img', type: 'fifo' }],
      [{ name: 'checkpoint/parent', type: 'symlink', linkname: '/' }],
    ),
    junk: fc.option(fc.uint8Array({ maxLength: 40 }), { freq: 3 }),
  })
  .map(({ pids, file, strange, junk }): ForgedMember[] => {
    const fown = { uid: 0, euid: 0, signum: 0, pidType: 0, pid: 0 };
    const reg = {
      id: 1,
      flags: 2,
      pos: 0,
      name: Buffer.from(`/${file ?? ''}`, 'latin1'),
      size: 7,
      mode: 0o100644,
      fown,
    };
    const entries = pids.map((pid) =>
      pstree_entry.encode({ pid, ppid: 0, pgid: pid, sid: pid, threads: [pid] }).finish(),
    );
    return [
      { name: 'checkpoint', type: 'directory' },
      { name: 'checkpoint/inventory.img', stored: Buffer.from(junk ?? []) },
      { name: 'checkpoint/pstree.img', stored: image(0x50273030, junk === null ? entries : [...entries, junk]) },
      {
        name: 'checkpoint/files.img',
        stored: image(0x56303138, file === null ? [] : [file_entry.encode({ type: 1, id: 1, reg }).finish()]),
      },
      ...strange,
    ];
  });

function image(magic: number, entries: Uint8Array[]): Buffer {
  const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);
  return Buffer.concat([u32(0x54564319), u32(magic), ...entries.flatMap((entry) => [u32(entry.length), entry])]);
}

const bindMounts = fc.array(
  fc.record({
    source: path,
    destination: path,
    file_type: fc.constantFrom('file', 'directory', 'fifo'),
    permissions: fc.constantFrom(0o755, -1, 2 ** 40, 0),
  }),
  { maxLength: 4 },
);

/**
 * Nothing is wrong with these but that CRIU, or the runtime, refuses them: whatever is changed starts from what gets
 * that far.
 */
export const plainArchives: readonly Buffer[] = [
  forge({
    members: [{ name: 'data', type: 'directory' }, ...plainImages()],
    trees: [tree('data', 1)],
    subject: treeSubject(),
  }),
  forge({
    members: [
      { name: 'rootfs-diff.tar', stored: tarOf([{ name: '.', type: 'directory' }]) },
      ...plainImages(),
      { name: 'config.dump', stored: '{}' },
      { name: 'spec.dump', stored: '{}' },
    ],
    trees: [tree('rootfs-diff.tar', 1, 'nested')],
    subject: containerSubject(),
  }),
];

function plainImages(): ForgedMember[] {
  const process = { pid: 3_999_999, ppid: 0, pgid: 3_999_999, sid: 3_999_999, threads: [3_999_999] };
  return [
    { name: 'checkpoint', type: 'directory' },
    { name: 'checkpoint/pstree.img', stored: image(0x50273030, [pstree_entry.encode(process).finish()]) },
    { name: 'checkpoint/files.img', stored: image(0x56303138, []) },
  ];
}

/** Mostly as it is: else little would get past it. */
function seldomAltered(value: unknown): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 4, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: altered(value) });
}

/** Made from nothing, of what an archive can say that it should not, with right hashes. */
export const forgedArchives: fc.Arbitrary<Buffer> = packed(
  fc.oneof(
    fc
      .tuple(members('data'), images, seldomAltered(treeSubject()), fc.integer({ min: -1, max: 1 }))
      .map(([below, checkpoint, subject, more]) =>
        forgedOrPlain({
          members: [{ name: 'data', type: 'directory' }, ...below, ...checkpoint],
          trees: [tree('data', below.length + 1 + (more === 1 ? 1 : 0))],
          subject: subject as Record<string, unknown>,
        }),
      ),
    fc
      .tuple(
        members(''),
        images,
        seldomAltered(containerSubject()),
        seldomAltered({ root: { path: 'rootfs' }, annotations: {}, mounts: [] }),
        fc.array(path, { maxLength: 6 }),
        fc.oneof(bindMounts, anything),
      )
      .map(([diff, checkpoint, subject, spec, deleted, binds]) =>
        forgedOrPlain({
          members: [
            { name: 'rootfs-diff.tar', stored: tarOrNothing([{ name: '.', type: 'directory' }, ...diff]) },
            ...checkpoint,
            { name: 'config.dump', stored: '{}' },
            { name: 'spec.dump', stored: JSON.stringify(spec) ?? '' },
            { name: 'deleted.files', stored: JSON.stringify(deleted) },
            { name: 'bind.mounts', stored: JSON.stringify(binds) ?? '' },
          ],
          trees: [tree('rootfs-diff.tar', diff.length + 1, 'nested')],
          subject: subject as Record<string, unknown>,
        }),
      ),
  ),
);

/** What our own writer refuses to write cannot be forged by it. */
function forgedOrPlain(forgery: Forgery): Buffer {
  const writable = forgery.members.filter((member) => tarOrNothing([member]).length > 0);
  return forge({ ...forgery, members: writable });
}

function tarOrNothing(list: ForgedMember[]): Buffer {
  try {
    return tarOf(list);
  } catch {
    const [first, ...rest] = list;
    return list.length === 1 || first === undefined
      ? Buffer.alloc(0)
      : tarOf([first, ...rest.filter((m) => tarOrNothing([m]).length > 0)]);
  }
}
