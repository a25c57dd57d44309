import { describe, expect, it } from 'vitest';
import { table, TableLines } from './table.js';

describe('a table', () => {
  it('has its numbers to the right and its texts to the left', () => {
    expect(
      table(
        ['name', 'bytes'],
        [
          ['a', 5],
          ['longer', 12_345],
        ],
      ),
    ).toBe(['name    bytes', 'a           5', 'longer  12345'].join('\n'));
  });

  it('without rows is its head', () => {
    expect(table(['name', 'bytes'], [])).toBe('name  bytes');
  });

  it.each([999, 1000, 1001, 130_000])('of %i rows has a line for each, all in the same columns', (count) => {
    const rows = Array.from({ length: count }, (_, i) => ['file', i % 1000, `m${i}`] as const);
    const lines = table(['type', 'bytes', 'member'], rows).split('\n');
    expect(lines).toHaveLength(count + 1);
    expect(new Set(lines.slice(1).map((line) => line.indexOf('m')))).toEqual(new Set([lines[0]!.indexOf('member')]));
    expect(lines.at(-1)).toContain(` m${count - 1}`);
  });

  it('holds no more rows than it needs to measure its columns', () => {
    const lines = new TableLines(['member']);
    const given = Array.from({ length: 1500 }, (_, i) => lines.add([`m${i}`]));
    expect(given.findIndex((text) => text !== '')).toBe(999);
    expect(given[1400]).toBe('m1400');
    expect(lines.end()).toBe('');
  });

  it('shows no control character of a late row either', () => {
    const rows = Array.from({ length: 1200 }, (_, i) => [`m${i}\x1b[2J\n`]);
    expect(table(['member'], rows).split('\n').at(-1)).toBe('m1199\\x1b[2J\\x0a');
  });
});
