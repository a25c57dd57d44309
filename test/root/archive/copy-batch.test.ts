/** Tables of a batch that are too small for what one entry needs. */
import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Area } from '../../../src/archive/members/segments.js';
import { CopyBatch } from '../../../src/archive/members/copy-batch.js';
import { Room } from '../../../src/archive/members/description.js';
import { ScannedTree } from '../../../src/archive/scan/scanned-tree.js';
import { padding } from '../../../src/archive/format/tar-encode.js';
import { Scratch } from './trees.js';

const STEP = 8192;

test('a batch takes whatever headers and ranges its entries have, and is emptied for the next', async () => {
  using scratch = new Scratch();
  const root = scratch.dir('tree');
  const file = openSync(scratch.in('tree/holes'), 'w');
  for (let i = 0; i < 6000; i++) writeSync(file, Buffer.from([i & 255]), 0, 1, i * STEP);
  ftruncateSync(file, 6000 * STEP);
  closeSync(file);
  writeFileSync(scratch.in('tree/plain'), 'plain');
  const tree = new ScannedTree(root);
  await tree.scan();
  const ids = Uint32Array.from([...tree.news('added')].flatMap((news) => [...news]));
  const room = new Room();
  const description = await room.describe(tree.handle, ids, { hash: false, prefix: undefined });
  const fd = openSync(scratch.in('out'), 'w+');
  const area = new Area(fd);
  const batch = new CopyBatch(fd, tree.handle);
  const ranges = Array.from({ length: 6000 }, (_, i) => ({ offset: i * STEP, length: 1 }));

  for (const headers of [[100_000, 500, 900_000, 1_500_000, 512], [512]]) {
    batch.begin(description, room);
    const expected: Buffer[] = [];
    const from = area.end;
    for (const [i, headerBytes] of headers.entries()) {
      for (const record of description.records()) {
        const { id, path, dataAt } = description.entry(record);
        const isFile = path.length > 0;
        const name = path.toString();
        const data = name === 'holes' ? Buffer.from(ranges.map((_, n) => n & 255)) : Buffer.from(isFile ? 'plain' : '');
        batch.takeHeader(headerBytes).fill(i + 1);
        expected.push(Buffer.alloc(headerBytes, i + 1), data, Buffer.alloc(padding(data.length)));
        const segment = area.append(id, headerBytes, data.length, isFile);
        batch.add({
          id,
          record,
          segment,
          headerBytes,
          offset: area.offsetOf(segment),
          dataBytes: data.length,
          ranges: name === 'holes' ? ranges : undefined,
          isFile,
          dataAt: isFile ? dataAt : -1,
        });
      }
    }
    expect(batch.isFull).toBe(true);
    await batch.run({ hash: false, ahead: false });
    expect([...batch.results()].map(({ status }) => status)).toEqual(headers.flatMap(() => [0, 0, 0]));
    expect(readFileSync(scratch.in('out')).subarray(from, area.end).equals(Buffer.concat(expected))).toBe(true);
  }
  batch.begin(description, room);
  expect([batch.isEmpty, batch.isFull]).toEqual([true, false]);
  closeSync(fd);
  tree.close();
});
