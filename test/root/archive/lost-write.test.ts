/** What lies in the scratch file and is lost by its disk: no read tells. */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Scratch as Tables, type Numbers, type Page } from '../../../src/archive/tables/page-file.js';
import { mountLosingDisk } from '../../fixtures/losing-disk.js';
import { Scratch } from './trees.js';

const LIMITS = { fixed: 0, cached: 1, tables: 1 };

/**
 * Writes so many pages of sevens, all but the last into the file, and has the kernel bring them to the disk and forget
 * them.
 */
function fill(tables: Tables, path: string, count: number): Page[] {
  const table: (Numbers | undefined)[] = [];
  const pages = Array.from({ length: count }, (_, number): Page => ({
    Numbers: Uint8Array,
    table,
    number,
    dirty: false,
    place: undefined,
  }));
  for (const page of pages) {
    tables.bring(page).fill(7);
    page.dirty = true;
  }
  spawnSync('sync', ['-f', path]); // whose status is that of the disk
  expect(spawnSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0']).status).toBe(0);
  return pages;
}

const wrong = (tables: Tables, pages: Page[]): number =>
  pages.filter((page) => tables.bring(page).some((value) => value !== 7)).length;

test('comes back as something else without an error, but the settling says so', async () => {
  using directory = new Scratch();
  using disk = mountLosingDisk(directory.path);
  const path = join(disk.path, 'scratch');
  const fd = openSync(path, 'w+');
  try {
    const tables = new Tables(fd, LIMITS);
    const pages = fill(tables, path, 320);
    expect(wrong(tables, pages)).toBeGreaterThan(0);
    await expect(tables.settle()).rejects.toMatchObject({
      code: expect.stringMatching(/^(ENOSPC|EIO)$/),
      syscall: 'scratch',
    });
    tables.close();
  } finally {
    closeSync(fd);
  }
});

test('a disk that keeps what it was given settles', async () => {
  using directory = new Scratch();
  const path = directory.in('scratch');
  const fd = openSync(path, 'w+');
  try {
    const tables = new Tables(fd, LIMITS);
    const pages = fill(tables, path, 320);
    expect(wrong(tables, pages)).toBe(0);
    await tables.settle();
    tables.close();
  } finally {
    closeSync(fd);
  }
});
