/**
 * How fast a tree is staged, looked at again and sealed, beside GNU tar of the same tree, and beside staging by way of
 * a directory, in one run. Usage: node dist/bench/archive.js TREE OUTPUT_DIR [RUNS]; on the same disk, caches warm.
 */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ArchiveWriter, Stage } from '../src/archive/index.js';

const [tree = '.', outputDir = '/tmp', runs = '5'] = process.argv.slice(2);
const median = (values: number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
const rows: Record<string, number[]> = {};
const note = (name: string, ms: number): number => (rows[name] ??= []).push(ms);

async function ours(): Promise<void> {
  const outputPath = join(outputDir, 'bench.stillframe.tar');
  const begin = performance.now();
  await using writer = await ArchiveWriter.create({ outputPath });
  const stage = new Stage(writer, [{ path: tree, name: 'tree' }]);
  await stage.precopy({ mapped: () => new Set() });
  await stage.refresh({ mapped: new Set(), writable: () => new Set() });
  const sealing = performance.now();
  await writer.seal({ subject: {} });
  const end = performance.now();
  note('precopy', stage.times.precopyMs);
  note('refresh, nothing changed', stage.times.refreshMs);
  note('seal, with fsync', end - sealing);
  note('in all', end - begin);
  rmSync(outputPath);
}

function tar(): void {
  const path = join(outputDir, 'bench.gnu.tar');
  const begin = performance.now();
  execFileSync('tar', ['--format=pax', '--xattrs', '--xattrs-include=*', '-cf', path, '-C', tree, '.']);
  note('GNU tar', performance.now() - begin);
  execFileSync('sync', [path]);
  note('GNU tar and sync', performance.now() - begin);
  rmSync(path);
}

/**
 * What an engine would do that keeps the first copy as files: they become a tar, and are removed, when all is current.
 */
function directory(): void {
  const staged = join(outputDir, 'bench.staged');
  const path = join(outputDir, 'bench.staged.tar');
  const begin = performance.now();
  execFileSync('cp', ['--archive', '--reflink=auto', tree, staged]);
  const copied = performance.now();
  execFileSync('tar', ['-cf', path, '-C', staged, '.']);
  execFileSync('sync', [path]);
  const sealed = performance.now();
  execFileSync('rm', ['-r', staged]);
  const end = performance.now();
  note('a directory: cp -a', copied - begin);
  note('a directory: tar and sync', sealed - copied);
  note('a directory: rm -r', end - sealed);
  note('a directory: in all', end - begin);
  rmSync(path);
}

// The first run pays for the caches: it does not count.
for (let run = 0; run <= Number(runs); run++) {
  await ours();
  tar();
  directory();
  if (run === 0) for (const name of Object.keys(rows)) rows[name] = [];
}
for (const [name, values] of Object.entries(rows)) {
  process.stdout.write(
    `${name.padEnd(26)} ${median(values).toFixed(0).padStart(6)} ms  (${Math.min(...values).toFixed(0)} to ${Math.max(...values).toFixed(0)}, ${values.length} runs)\n`,
  );
}
process.stdout.write(
  `${'peak memory'.padEnd(26)} ${(process.resourceUsage().maxRSS / 1024).toFixed(0).padStart(6)} MiB\n`,
);
