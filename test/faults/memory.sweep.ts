/**
 * What the writing of an archive takes of memory, seen from outside: by the kernel's own record of a process of its
 * own.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, linkSync, mkdirSync, openSync, symlinkSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Scratch } from '../root/archive/trees.js';

const ENTRIES = Number(process.env['STILLFRAME_ENTRIES'] ?? 300_000);
const PER_DIRECTORY = 1000;
/**
 * For 300,000 entries it lies between what they take, some 110, and what any of them took while each made objects of
 * JavaScript's or waited for its collector.
 */
const BOUND_MIB = ENTRIES > 300_000 ? 150 : 130;

const child = `
  import { readFileSync } from 'node:fs';
  import { monitorEventLoopDelay } from 'node:perf_hooks';
  const { ArchiveWriter, Stage } = await import(process.argv[1]);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const writer = await ArchiveWriter.create({ outputPath: process.argv[3] });
  const stage = new Stage(writer, [{ path: process.argv[2], name: 'tree' }]);
  await stage.precopy({ mapped: () => new Set() });
  await stage.refresh({ mapped: new Set(), writable: () => new Set() });
  const { members } = await writer.seal({ subject: {} });
  const peakKib = Number(/^VmHWM:\\s+(\\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'))[1]);
  console.log(JSON.stringify({ members, peakKib, heldMs: delay.max / 1e6 }));
`;

/** What entry number `i` of a tree is; `path` says where any entry is. */
type Make = (path: (i: number) => string, i: number) => void;

const makeFile: Make = (path, i) => closeSync(openSync(path(i), 'w'));

const TREES: { of: string; make: Make; entries?: number; regular: (entries: number) => number }[] = [
  { of: 'files', make: makeFile, regular: (entries) => entries },
  {
    of: 'files with two names each, beside each other',
    make: (path, i) => (i % 2 === 0 ? makeFile(path, i) : linkSync(path(i - 1), path(i))),
    regular: (entries) => entries / 2,
  },
  {
    of: 'files with two names each, the second ones in other directories',
    make: (path, i) => (i < ENTRIES / 2 ? makeFile(path, i) : linkSync(path(i - ENTRIES / 2), path(i))),
    regular: (entries) => entries / 2,
  },
  // ext4 has no more names for one file.
  {
    of: 'names of one file',
    make: (path, i) => (i === 0 ? makeFile(path, i) : linkSync(path(0), path(i))),
    entries: Math.min(ENTRIES, 65_000),
    regular: () => 1,
  },
  { of: 'symbolic links', make: (path, i) => symlinkSync('somewhere else', path(i)), regular: () => 0 },
  // Fewer: they take a disk several times as long as files.
  { of: 'directories', make: (path, i) => mkdirSync(path(i)), entries: Math.min(ENTRIES, 100_000), regular: () => 0 },
  {
    of: 'files with holes',
    make: (path, i) => (makeFile(path, i), truncateSync(path(i), 100_000)),
    regular: (entries) => entries,
  },
];

it.each(TREES)('an archive of $of is written in less than a bound', ({ of, make, entries = ENTRIES, regular }) => {
  using scratch = new Scratch(process.env['STILLFRAME_DIR'] ?? tmpdir());
  const directoryOf = (i: number): string => scratch.in(`tree/${Math.floor(i / PER_DIRECTORY)}`);
  const path = (i: number): string => join(directoryOf(i), `a name of some length, ${i}`);
  for (let i = 0; i < entries; i++) {
    if (i % PER_DIRECTORY === 0) mkdirSync(directoryOf(i), { recursive: true });
    make(path, i);
  }
  const library = fileURLToPath(new URL('../../dist/src/archive/index.js', import.meta.url));
  const output = execFileSync(
    process.execPath,
    ['--input-type=module', '--eval', child, library, scratch.in('tree'), scratch.in('x.tar')],
    { encoding: 'utf8' },
  );
  const { members, peakKib, heldMs } = JSON.parse(output) as { members: number; peakKib: number; heldMs: number };
  console.log(
    `${entries} ${of}: at most ${Math.ceil(peakKib / 1024)} MiB resident; the event loop was held for ${heldMs.toFixed(1)} ms at most`,
  );
  expect(members).toBe(regular(entries));
  expect(peakKib / 1024).toBeLessThan(BOUND_MIB);
});
