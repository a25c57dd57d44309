/** Tables that grow by pieces, against plain models. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HardLinks } from '../scan/hard-links.js';
import { BytesColumn, Column } from './column.js';

const row = fc.nat(300_000);

test('columns give back what was set last, and 0 for what never was', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(2), row, fc.nat(200))), (sets) => {
      const columns = [new Column(Float64Array), new Column(Uint32Array), new Column(Uint8Array)] as const;
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

test('rows of bytes may be set and read across pieces', () => {
  const rowBytes = 64;
  const column = new BytesColumn(rowBytes);
  const rows = 10_000;
  const bytes = Buffer.from(Array.from({ length: rows * rowBytes }, (_, i) => i % 251));
  column.set(5700, bytes, 0, 3000);
  column.set(8700, bytes, 3000, rows - 3000);
  const read = (start: number, end: number): Buffer => {
    const into = Buffer.alloc((end - start) * rowBytes, 'what was there');
    column.get(start, end, into);
    return into;
  };
  expect(read(5700, 5700 + rows).equals(bytes)).toBe(true);
  expect(read(0, 5700).equals(Buffer.alloc(5700 * rowBytes))).toBe(true);
});

test('hard links: an inode has one carrier, and whoever leaves as such takes its links along', () => {
  const step = fc.oneof(
    fc.record({ join: fc.nat(40), ino: fc.bigInt({ min: 0n, max: 7n }), dev: fc.nat(1) }),
    fc.record({ leave: fc.nat(40) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const links = new HardLinks();
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
  const links = new HardLinks();
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 5000; i++) expect(links.join(2 * i, 1, BigInt(i))).toBe(2 * i);
    for (let i = 0; i < 5000; i++) expect(links.join(2 * i + 1, 1, BigInt(i))).toBe(2 * i);
    for (let i = 0; i < 5000; i++) if (i % 10 !== round) expect([...links.leave(2 * i)]).toEqual([2 * i + 1]);
    for (let i = 0; i < 5000; i++) for (const _ of links.leave(2 * i));
  }
});
