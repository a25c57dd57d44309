import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { readPagemap, type DumpedMapping, type OpenFile } from '../../criu/index.js';
import { PAGE_BYTES } from './page.js';

/** Bytes of a mapping whose contents are in this archive, or in the images that it refers to. */
export interface MappingSizes {
  dumped: number;
  inParent: number;
}

/**
 * How much of each mapping was dumped, by the pagemaps of the process and of the shared memory that it has.
 * @param mappings By their addresses.
 * @param files By the ids that mappings refer to.
 * @throws CriuError CRIU_IMAGE
 */
export async function mappingSizes(
  imagesDir: string,
  pid: number,
  mappings: readonly DumpedMapping[],
  files: ReadonlyMap<number, OpenFile>,
): Promise<MappingSizes[]> {
  const sizes = mappings.map(() => ({ dumped: 0, inParent: 0 }));
  const own = new Counter(mappings.map(({ start, end }) => ({ start, end })));
  await readPagemap(imagesDir, pid, (pages) => own.count(pages, sizes));
  for (const [i, mapping] of mappings.entries()) {
    const { offset, start, end } = mapping;
    const [size, sharedId] = [sizes[i], sharedIdOf(mapping, files)];
    if (sharedId === undefined || size === undefined) continue;
    if (!existsSync(join(imagesDir, `pagemap-shmem-${sharedId}.img`))) continue;
    const part = new Counter([{ start: offset, end: offset + end - start }]);
    await readPagemap(imagesDir, { sharedId }, (pages) => part.count(pages, [size]));
  }
  return sizes;
}

/** Whose pages a shared mapping has, where they are no file's. */
export function sharedIdOf(
  { sharedId, fileId, protection }: DumpedMapping,
  files: ReadonlyMap<number, OpenFile>,
): number | undefined {
  if (sharedId !== undefined) return sharedId;
  return fileId === undefined || !protection.endsWith('s') ? undefined : files.get(fileId)?.sharedId;
}

/** Adds pages up by the ranges that they are in. Both come by their addresses, so each is looked at once. */
class Counter {
  readonly #ranges: readonly { start: number; end: number }[];
  #next = 0;

  constructor(ranges: readonly { start: number; end: number }[]) {
    this.#ranges = ranges;
  }

  count(pages: { address: number; pages: number; before: number | undefined }, sizes: readonly MappingSizes[]): void {
    const end = pages.address + pages.pages * PAGE_BYTES;
    for (let i = this.#next; i < this.#ranges.length; i++) {
      const [range, size] = [this.#ranges[i], sizes[i]];
      if (range === undefined || size === undefined || range.start >= end) return;
      if (range.end <= pages.address) {
        this.#next = i + 1;
        continue;
      }
      const bytes = Math.min(end, range.end) - Math.max(pages.address, range.start);
      if (pages.before === undefined) size.inParent += bytes;
      else size.dumped += bytes;
    }
  }
}
