import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Bits } from './id-set.js';

const number = fc.oneof(fc.nat(70), fc.nat(100_000));

it('is the set of what was put in and not taken out, in order', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(number, fc.boolean())), number, (steps, from) => {
      const bits = new Bits();
      const set = new Set<number>();
      for (const [n, isIn] of steps) {
        bits.set(n, isIn);
        if (isIn) set.add(n);
        else set.delete(n);
      }
      const found: number[] = [];
      for (let n = bits.next(from); n !== undefined; n = bits.next(n + 1)) found.push(n);
      expect(found).toEqual([...set].filter((n) => n >= from).sort((a, b) => a - b));
    }),
  );
});
