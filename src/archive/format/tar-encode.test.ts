import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { extract } from 'tar-stream';
import type { Entry, EntryType } from './entry.js';
import { paxRecord, parsePax, parsePaxTime, paxTime } from './pax.js';
import { TarParser, type Parsed } from './tar-decode.js';
import { alignRanges, encodeHeader, END_OF_ARCHIVE, padding, storedSize } from './tar-encode.js';

const entry = (fields: Partial<Entry>): Entry => ({
  name: Buffer.from('a'),
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  size: 0,
  mtimeNs: 0n,
  ...fields,
});

function parse(bytes: Buffer): Extract<Parsed, { kind: 'member' }> {
  const parser = new TarParser();
  let at = 0;
  for (;;) {
    const { need } = parser;
    expect(at + need).toBeLessThanOrEqual(bytes.length);
    const parsed = parser.push(bytes.subarray(at, (at += need)));
    if (parsed === undefined) continue;
    if (parsed.kind === 'end') throw new Error('ended before the member');
    expect(at).toBe(bytes.length);
    return parsed;
  }
}

const bytes = (max: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: 1, maxLength: max }).map((b) => Buffer.from(b.map((byte) => byte || 1)));
const name = bytes(600).filter((b) => b[0] !== 0x2f && b.at(-1) !== 0x2f && !b.toString('latin1').startsWith('./'));
const anyEntry = fc
  .record({
    name,
    type: fc.constantFrom<EntryType>(
      'file',
      'directory',
      'symlink',
      'hardlink',
      'fifo',
      'character-device',
      'block-device',
    ),
    mode: fc.integer({ min: 0, max: 0o7777 }),
    uid: fc.integer({ min: 0, max: 0xffffffff }),
    gid: fc.integer({ min: 0, max: 0xffffffff }),
    size: fc.maxSafeNat(),
    mtimeNs: fc.bigInt({ min: -(2n ** 66n), max: 2n ** 66n }),
    linkname: fc.oneof(
      name,
      bytes(100).filter((b) => b.at(-1) !== 0x2f && !b.toString('latin1').startsWith('./')),
    ),
    devmajor: fc.integer({ min: 0, max: 4095 }),
    devminor: fc.integer({ min: 0, max: 1048575 }),
    xattrs: fc.array(
      fc.record({ name: bytes(60), value: fc.uint8Array({ maxLength: 300 }).map((b) => Buffer.from(b)) }),
      { minLength: 1, maxLength: 3 },
    ),
  })
  .map(({ linkname, devmajor, devminor, xattrs, size, ...rest }): Entry => ({
    ...rest,
    size: rest.type === 'file' ? size : 0,
    ...(rest.type === 'symlink' || rest.type === 'hardlink' ? { linkname } : {}),
    ...(rest.type.endsWith('device') ? { devmajor, devminor } : {}),
    xattrs: [...new Map(xattrs.map((xattr) => [xattr.name.toString('latin1'), xattr])).values()],
  }));

describe('tar headers', () => {
  it('come back from bytes as the entry they were made of', () => {
    fc.assert(
      fc.property(anyEntry, (e) => {
        expect(parse(encodeHeader(e)).entry).toEqual(e);
      }),
      { numRuns: 500 },
    );
  });

  it('bring the data to the start of a page where they are asked to, whatever they hold', () => {
    fc.assert(
      fc.property(anyEntry, fc.nat(100_000), (e, blocks) => {
        const offset = blocks * 512;
        const header = encodeHeader(e, undefined, offset);
        expect((offset + header.length) % 4096).toBe(0);
        expect(header.length).toBeLessThanOrEqual(encodeHeader(e).length + 4096 + 512);
        expect(parse(header).entry).toEqual(e);
      }),
      { numRuns: 500 },
    );
  });

  it('carry a sparse file with its ranges', () => {
    const ranges = fc.array(
      fc.record({ offset: fc.integer({ min: 0, max: 1e9 }), length: fc.integer({ min: 0, max: 1e6 }) }),
      { maxLength: 200 },
    );
    fc.assert(
      fc.property(ranges, fc.integer({ min: 0, max: 1e9 }), (raw, extra) => {
        const sorted = raw.sort((a, b) => a.offset - b.offset);
        const size = extra + Math.max(0, ...sorted.map((r) => r.offset + r.length));
        const e = entry({ size, data: alignRanges(sorted, size) });
        const parsed = parse(encodeHeader(e));
        expect(parsed.entry).toEqual(e);
        expect(parsed.storedBytes).toBe(storedSize(e));
      }),
    );
  });

  it('need no pax header when everything fits its field', () => {
    expect(
      encodeHeader(
        entry({
          name: Buffer.alloc(100, 'x'),
          size: 8 * 1024 ** 3 - 1,
          uid: 2097151,
          mtimeNs: 8589934591n * 10n ** 9n,
        }),
      ).length,
    ).toBe(512);
    expect(encodeHeader(entry({ uid: 2097152 })).length).toBe(3 * 512);
  });

  it.each<[string, Partial<Entry>]>([
    ['an empty name', { name: Buffer.alloc(0) }],
    ['a zero byte in a name', { name: Buffer.from('a\0b') }],
    ['an absolute name', { name: Buffer.from('/etc/passwd') }],
    ['a link without a target', { type: 'symlink' }],
    ['a size past 2^53', { size: 2 ** 54 }],
    ['a negative uid', { uid: -1 }],
    ['a mode with file type bits', { mode: 0o100644 }],
    ['a device number that does not fit', { type: 'block-device', devmajor: 1, devminor: 2 ** 24 }],
    ['attributes of 9 MiB', { xattrs: [{ name: Buffer.from('user.a'), value: Buffer.alloc(9 * 1024 ** 2) }] }],
    ['a range past the end', { size: 10, data: [{ offset: 0, length: 512 }] }],
    [
      'ranges that overlap',
      {
        size: 4096,
        data: [
          { offset: 0, length: 1024 },
          { offset: 512, length: 512 },
        ],
      },
    ],
    ['a range that ends within a block', { size: 4096, data: [{ offset: 0, length: 100 }] }],
  ])('refuse %s', (_, fields) => {
    expect(() => encodeHeader(entry(fields))).toThrowError(expect.objectContaining({ code: 'ENTRY_UNREPRESENTABLE' }));
  });

  it('are read alike by tar-stream', async () => {
    const long = `${'d'.repeat(200)}/${'ü'.repeat(100)}`;
    const pack = Buffer.concat([
      encodeHeader(entry({ name: Buffer.from(long), size: 5, uid: 1000, mtimeNs: 1716900000000000000n })),
      Buffer.from('hello'),
      Buffer.alloc(padding(5)),
      encodeHeader(entry({ name: Buffer.from('link'), type: 'symlink', linkname: Buffer.from(`../${long}`) })),
      encodeHeader(entry({ name: Buffer.from('null'), type: 'character-device', devmajor: 1, devminor: 3 })),
      END_OF_ARCHIVE,
    ]);
    const reader = extract();
    reader.end(pack);
    const seen: unknown[] = [];
    for await (const member of reader) {
      const { name: memberName, type, size, linkname, uid, devmajor, devminor } = member.header;
      seen.push({ memberName, type, size, linkname, uid, devmajor, devminor });
      member.resume();
    }
    expect(seen).toEqual([
      { memberName: long, type: 'file', size: 5, linkname: null, uid: 1000, devmajor: 0, devminor: 0 },
      { memberName: 'link', type: 'symlink', size: 0, linkname: `../${long}`, uid: 0, devmajor: 0, devminor: 0 },
      { memberName: 'null', type: 'character-device', size: 0, linkname: null, uid: 0, devmajor: 1, devminor: 3 },
    ]);
  });
});

describe('the parser', () => {
  it('throws nothing but typed errors at random and mutated headers', () => {
    const mutated = fc
      .tuple(anyEntry, fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 8 }), fc.boolean())
      .map(([e, edits, fix]) => {
        const out = encodeHeader(e);
        for (const [at, byte] of edits) out[at % out.length] = byte;
        if (fix) for (let at = 0; at < out.length; at += 512) fixChecksum(out.subarray(at, at + 512));
        return out;
      });
    fc.assert(
      fc.property(mutated, (input) => {
        const parser = new TarParser();
        try {
          for (let at = 0; at + parser.need <= input.length;) {
            const { need } = parser;
            parser.push(input.subarray(at, (at += need)));
          }
        } catch (error) {
          expect(error).toMatchObject({ name: 'ArchiveError' });
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('refuses a header that claims gigabytes of pax records', () => {
    const block = encodeHeader(entry({ uid: 2 ** 31 })).subarray(0, 512);
    block.write('77777777777', 124, 'latin1');
    fixChecksum(block);
    expect(() => new TarParser().push(block)).toThrowError(expect.objectContaining({ code: 'ARCHIVE_DAMAGED' }));
  });

  it.each(['-1', '1e3', '99999999999999999999', ' 5', ''])('refuses the pax size %j', (size) => {
    const body = paxRecord('size', size) + paxRecord('path', 'p');
    const headers = withPax(body);
    if (size === '') expect(parse(headers).storedBytes).toBe(0);
    else expect(() => parse(headers)).toThrowError(expect.objectContaining({ code: 'ARCHIVE_DAMAGED' }));
  });

  it('refuses pax headers one after the other', () => {
    const one = withPax(paxRecord('path', 'p')).subarray(0, 1024);
    expect(() => parse(Buffer.concat([one, one, encodeHeader(entry({}))]))).toThrowError(
      expect.objectContaining({ code: 'ARCHIVE_DAMAGED' }),
    );
  });
});

describe('pax records', () => {
  it('count their own length, at every number of digits', () => {
    for (let length = 0; length < 11000; length++) {
      const record = paxRecord('k', 'v'.repeat(length));
      expect(Number(record.slice(0, record.indexOf(' ')))).toBe(record.length);
    }
  });

  it('hold every nanosecond there is', () => {
    fc.assert(fc.property(fc.bigInt({ min: -(2n ** 80n), max: 2n ** 80n }), (ns) => parsePaxTime(paxTime(ns)) === ns));
    expect(paxTime(-1_500_000_000n)).toBe('-1.500000000');
  });

  it.each(['5 a=b', '6 a=b\n0', '4 =b\n', '99 a=b\n', '3 a\n', 'a=b\n', '-6 a=b\n', '0 a=b\n'])(
    'refuses %j',
    (text) => {
      expect(parsePax(Buffer.from(text))).toHaveProperty('wrong');
    },
  );
});

function withPax(body: string): Buffer {
  const headers = encodeHeader(entry({ uid: 2 ** 31 }));
  headers.fill(0, 512, 1024).write(body, 512, 'latin1');
  headers.write(body.length.toString(8).padStart(11, '0'), 124, 'latin1');
  fixChecksum(headers.subarray(0, 512));
  return headers;
}

function fixChecksum(block: Buffer): void {
  block.fill(0x20, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0`, 148, 'latin1');
}
