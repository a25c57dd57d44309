/**
 * What a large file that has changed after its first copy costs the window: 200 pages of 1 GiB written, at random
 * places. Usage: node dist/bench/changed-file.js DIRECTORY [RUNS]; on the file system that is measured.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { ArchiveWriter, Stage } from '../src/archive/index.js';

const [directory = '/tmp', runs = '5'] = process.argv.slice(2);
const PAGE_BYTES = 4096;
const PAGES = 262_144;
const CHANGED = 200;

const place = mkdtempSync(join(directory, 'stillframe-bench-'));
const tree = join(place, 'tree');
const outputPath = join(place, 'archive.tar');
const file = join(tree, 'large');
const refreshMs: number[] = [];
try {
  execFileSync('sh', ['-c', 'mkdir "$1" && head -c 1G /dev/urandom >"$1/large" && sync -f "$1"', 'sh', tree]);
  for (let run = 0; run < Number(runs); run++) {
    await using writer = await ArchiveWriter.create({ outputPath, overwrite: true });
    const stage = new Stage(writer, [{ path: tree, name: 'tree' }]);
    await stage.precopy({ mapped: () => new Set() });
    const fd = openSync(file, 'r+');
    const page = Buffer.alloc(PAGE_BYTES, run + 1);
    for (let i = 0; i < CHANGED; i++)
      writeSync(fd, page, 0, PAGE_BYTES, Math.floor(Math.random() * PAGES) * PAGE_BYTES);
    closeSync(fd);
    await stage.refresh({ mapped: new Set(), writable: () => new Set() });
    refreshMs.push(stage.times.refreshMs);
    await writer.seal({ subject: {} });
  }
} finally {
  rmSync(place, { recursive: true });
}
refreshMs.sort((a, b) => a - b);
const [least, median, most] = [refreshMs[0], refreshMs[Math.floor(refreshMs.length / 2)], refreshMs.at(-1)].map((ms) =>
  (ms ?? NaN).toFixed(1),
);
process.stdout.write(
  `refresh, 1 GiB of which ${CHANGED} pages had changed: ${median} ms (${least} to ${most}, ${refreshMs.length} runs)\n`,
);
