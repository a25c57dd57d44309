/** Tables that are in a file but for one page, against ones in memory and against plain models. */
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Column, DigestColumn } from './page-column.js';
import { MEMBER_DIGESTS } from '../members/description.js';
import { HardLinks } from '../scan/hard-links.js';
import { Scratch } from './page-file.js';

let dir: string;
beforeAll(() => void (dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'))));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** A scratch file that keeps so few pages in memory that all others come and go. */
function spilling(tables: number): { scratch: Scratch; fd: number } & Disposable {
  const fd = openSync(join(dir, 'scratch'), 'w+');
  const scratch = new Scratch(fd, { fixed: 0, cached: 1, tables });
  return {
    scratch,
    fd,
    [Symbol.dispose]: () => {
      scratch.close();
      closeSync(fd);
    },
  };
}

const row = fc.nat(300_000);

test('columns give back what was set last, whatever is in memory', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 3 }), fc.array(fc.tuple(fc.nat(2), row, fc.nat(200))), (tables, sets) => {
      using file = spilling(tables);
      const columns = [
        new Column(file.scratch, Float64Array),
        new Column(file.scratch, Uint32Array),
        new Column(file.scratch, Uint8Array),
      ] as const;
      const model = new Map<string, number>();
      for (const [which, at, value] of sets) {
        columns[which as 0]?.set(at, value);
        model.set(`${which}:${at}`, value);
        expect(columns[which as 0]?.get(at)).toBe(value);
      }
      for (const [which, at] of sets) expect(columns[which as 0]?.get(at)).toBe(model.get(`${which}:${at}`));
      for (const [, at] of sets) expect(columns[0].get(at + 1)).toBe(model.get(`0:${at + 1}`) ?? 0);
    }),
  );
});

test('digests may be set and read across pages', () => {
  using file = spilling(1);
  const column = new DigestColumn(file.scratch);
  const rows = 5000;
  const digests = Buffer.from(Array.from({ length: rows * MEMBER_DIGESTS }, (_, i) => i % 251));
  column.set(700, digests, 0, 3000);
  column.set(3700, digests, 3000, rows - 3000);
  const read = (start: number, end: number): Buffer => {
    const into = Buffer.alloc((end - start) * MEMBER_DIGESTS, 'what was there');
    column.get(start, end, into);
    return into;
  };
  expect(read(700, 700 + rows).equals(digests)).toBe(true);
  expect(read(0, 700).equals(Buffer.alloc(700 * MEMBER_DIGESTS))).toBe(true);
});

test('a page that is not in memory is lost when the file is closed, and that is said', () => {
  const file = spilling(1);
  const column = new Column(file.scratch, Uint32Array);
  column.set(0, 7);
  column.set(1 << 20, 8);
  file[Symbol.dispose]();
  expect(() => column.get(0)).toThrow('closed');
});

test('hard links: an inode has one carrier, and whoever leaves as such takes its links along', () => {
  const step = fc.oneof(
    fc.record({ join: fc.nat(40), ino: fc.bigInt({ min: 0n, max: 7n }), dev: fc.nat(1) }),
    fc.record({ leave: fc.nat(40) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      using file = spilling(1);
      const links = new HardLinks(file.scratch);
      const carriers = new Map<string, number>();
      const groups = new Map<number, { key: string; carrier: number }>();
      const leave = (id: number): number[] => {
        const group = groups.get(id);
        groups.delete(id);
        if (group?.carrier !== id) return [];
        carriers.delete(group.key);
        const lost = [...groups].filter(([, { carrier }]) => carrier === id).map(([link]) => link);
        for (const link of lost) groups.delete(link);
        return lost;
      };
      for (const action of steps) {
        if ('leave' in action) {
          expect([...links.leave(action.leave)].sort()).toEqual(leave(action.leave).sort());
          continue;
        }
        const { join: id, ino, dev } = action;
        const key = `${dev}:${ino}`;
        if (groups.get(id)?.key !== key) leave(id);
        if (!carriers.has(key)) carriers.set(key, id);
        groups.set(id, { key, carrier: carriers.get(key) as number });
        // Inode numbers have 64 bits.
        expect(links.join(id, dev, ino << 31n)).toBe(carriers.get(key));
      }
    }),
  );
});

test('hard links: many inodes, the most of which leave again', () => {
  using file = spilling(8);
  const links = new HardLinks(file.scratch);
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 5000; i++) expect(links.join(2 * i, 1, BigInt(i))).toBe(2 * i);
    for (let i = 0; i < 5000; i++) expect(links.join(2 * i + 1, 1, BigInt(i))).toBe(2 * i);
    for (let i = 0; i < 5000; i++) if (i % 10 !== round) expect([...links.leave(2 * i)]).toEqual([2 * i + 1]);
    for (let i = 0; i < 5000; i++) for (const _ of links.leave(2 * i));
  }
});
