import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EntryType } from '../format/entry.js';
import { parentName } from '../format/names.js';
import { KeyedHash } from './keyed-hash.js';
import { NameSet } from './name-set.js';

describe('KeyedHash', () => {
  // The reference code's vectors_hsip64: key 00 01 ... 07, input of the bytes 00 01 ... of each length.
  it.each([
    [0, '218d1f59b9b83cc8'],
    [1, 'be552412f8387315'],
  ])('is HalfSipHash-2-4 of %i bytes', (length, hex) => {
    const hash = new KeyedHash(Buffer.from([0, 1, 2, 3, 4, 5, 6, 7]));
    hash.prefixes(Buffer.from([...Array(length).keys()]), [], () => undefined);
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE(hash.low, 0);
    bytes.writeUInt32LE(hash.high, 4);
    expect(bytes.toString('hex')).toBe(hex);
  });

  it('gives a prefix the hash that it has alone', () => {
    const hash = new KeyedHash(Buffer.alloc(8, 7));
    const bytes = Buffer.from('the directories above a name, each of which is a prefix');
    const found = new Map<number, string>();
    hash.prefixes(bytes, [1, 4, 5, 10, 11, 12, 30], (length) => found.set(length, `${hash.low} ${hash.high}`));
    expect(found.size).toBe(8);
    for (const [length, value] of found) {
      hash.prefixes(bytes.subarray(0, length), [], () => expect(`${hash.low} ${hash.high}`).toBe(value));
    }
  });
});

/** The rules in plain words, with maps of names. */
class Model {
  readonly members = new Map<string, EntryType>();
  readonly implied = new Set<string>();

  accepts(name: string, type: EntryType, linkname?: string): boolean {
    if (this.members.has(name) || (type !== 'directory' && this.implied.has(name))) return false;
    const parents = [];
    for (let parent = parentName(name); parent !== ''; parent = parentName(parent)) parents.push(parent);
    if (parents.some((parent) => (this.members.get(parent) ?? 'directory') !== 'directory')) return false;
    if (type === 'hardlink') {
      const target = linkname === undefined ? undefined : this.members.get(linkname);
      if (target === undefined || target === 'directory') return false;
    }
    for (const parent of parents) if (!this.members.has(parent)) this.implied.add(parent);
    this.members.set(name, type);
    return true;
  }
}

describe('NameSet', () => {
  it('looks at each directory of a deep tree once, not once for each name below it', () => {
    const names = new NameSet();
    const deepest = Buffer.from('d/'.repeat(12_000));
    const begun = process.cpuUsage();
    for (let end = 1; end < deepest.length; end += 2)
      expect(names.add(deepest.subarray(0, end), 'directory')).toBeUndefined();
    // Otherwise 72 million looks, which take more than ten seconds.
    expect(process.cpuUsage(begun).user / 1e6).toBeLessThan(5);
  });

  it('knows of a name that goes on where the one before it ended that this one may be no directory', () => {
    for (const [first, second] of [
      ['a/b', 'a/b/c'],
      ['a', 'a/b'],
      ['a/bc', 'a/bc/d/e'],
    ] as const) {
      const names = new NameSet();
      expect(names.add(Buffer.from(first), 'symlink')).toBeUndefined();
      expect(names.add(Buffer.from(second), 'file')).toBe('it lies below a symlink');
    }
  });

  it('says of every name what a map of all names says, up to the first that is refused', () => {
    const name = fc
      .array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 4 })
      .map((parts) => parts.join('/'));
    const type = fc.constantFrom<EntryType>(
      'file',
      'directory',
      'directory',
      'directory',
      'symlink',
      'hardlink',
      'fifo',
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(name, type, name), { maxLength: 40 }), (entries) => {
        const [set, model] = [new NameSet(), new Model()];
        for (const [member, kind, link] of entries) {
          const accepted = set.add(Buffer.from(member), kind, Buffer.from(link)) === undefined;
          expect(accepted, `${kind} ${member}`).toBe(model.accepts(member, kind, link));
          if (!accepted) return;
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('finds the one of 200,000 names that is there twice', () => {
    const set = new NameSet();
    let refused = 0;
    for (let i = 0; i < 200_000; i++) if (set.add(Buffer.from(`tree/${i % 500}/${i}`), 'file') !== undefined) refused++;
    expect(refused).toBe(0);
    expect(set.add(Buffer.from('tree/7/4507'), 'file')).toBe('the name is there twice');
    expect(set.add(Buffer.from('tree/7/4507/x'), 'file')).toBe('it lies below a file');
  });

  it('refuses names that run through more directories than memory should hold', () => {
    const set = new NameSet();
    const deep = 'd/'.repeat(32_000);
    let wrong: string | undefined;
    for (let i = 0; i < 40 && wrong === undefined; i++) wrong = set.add(Buffer.from(`${i}/${deep}f`), 'file');
    expect(wrong).toContain('directories that are no members');
  });
});
