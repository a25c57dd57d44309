/**
 * What the writing, verifying and extracting of an archive take of memory, seen from outside: by the kernel's own record
 * of processes of their own.
 */
import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Scratch } from '../root/archive/trees.js';

const ENTRIES = Number(process.env['STILLFRAME_ENTRIES'] ?? 300_000);
const PER_DIRECTORY = 1000;
/** What is known of the entries of a tree takes memory; Node.js, the library and what is in flight take the rest. */
const writeMib = (moreMib: number): number => 80 + moreMib + (ENTRIES * 250) / 2 ** 20;
/** Of inodes with several names; what grows with a table is garbage before it is collected. */
const LINKS_MIB = 30;
/** Nine to eighteen bytes an entry, and the collector's room. */
const READ_MIB = ENTRIES > 300_000 ? 135 : 110;

/** What each process reports. */
interface Report {
  entries: number;
  peakKib: number;
  heldMs: number;
  cpuMs: number;
}

const report = `
  import { readFileSync } from 'node:fs';
  import { monitorEventLoopDelay } from 'node:perf_hooks';
  const { ArchiveWriter, extractTree, openArchive, Stage, verifyArchive } = await import(process.argv[1]);
  const [directory, archive] = process.argv.slice(2);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const report = (entries) => {
    const peakKib = Number(/^VmHWM:\\s+(\\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'))[1]);
    const { user, system } = process.cpuUsage();
    console.log(JSON.stringify({ entries, peakKib, heldMs: delay.max / 1e6, cpuMs: (user + system) / 1000 }));
  };
`;

const write = `${report}
  const writer = await ArchiveWriter.create({ outputPath: archive });
  const stage = new Stage(writer, [{ path: directory, name: 'tree' }]);
  await stage.precopy({ mapped: () => new Set() });
  await stage.refresh({ mapped: new Set(), writable: () => new Set() });
  report((await writer.seal({ subject: {} })).members);
`;

const verify = `${report}
  const { manifest } = await verifyArchive(await openArchive(archive));
  report(manifest.integrity.members);
`;

/** As a restore does: what was verified is extracted. */
const extract = `${report}
  const verified = await verifyArchive(await openArchive(archive));
  report((await extractTree({ verified, tree: 'tree', destination: directory })).entries);
`;

const library = fileURLToPath(new URL('../../dist/src/archive/index.js', import.meta.url));

function measure(what: string, script: string, directory: string, archive: string): Report {
  const output = execFileSync(
    process.execPath,
    ['--input-type=module', '--eval', script, library, directory, archive],
    { encoding: 'utf8' },
  );
  const measured = JSON.parse(output) as Report;
  const { peakKib, heldMs, cpuMs } = measured;
  console.log(
    `${what}: at most ${Math.ceil(peakKib / 1024)} MiB resident; ${(cpuMs / 1000).toFixed(1)} s of processor time; ` +
      `the event loop was held for ${heldMs.toFixed(1)} ms at most`,
  );
  return measured;
}

/** What entry number `i` of a tree is; `path` says where any entry is. */
type Make = (path: (i: number) => string, i: number) => void;

const CONTENT = Buffer.alloc(100, 'x');

const makeFile: Make = (path, i) => writeFileSync(path(i), CONTENT);

interface TreeKind {
  of: string;
  make: Make;
  entries?: number;
  regular: (entries: number) => number;
  moreMib?: number;
}

const TREES: TreeKind[] = [
  { of: 'files', make: makeFile, regular: (entries) => entries },
  {
    of: 'files with two names each, beside each other',
    make: (path, i) => (i % 2 === 0 ? makeFile(path, i) : linkSync(path(i - 1), path(i))),
    regular: (entries) => entries / 2,
    moreMib: LINKS_MIB,
  },
  {
    of: 'files with two names each, the second ones in other directories',
    make: (path, i) => (i < ENTRIES / 2 ? makeFile(path, i) : linkSync(path(i - ENTRIES / 2), path(i))),
    regular: (entries) => entries / 2,
    moreMib: LINKS_MIB,
  },
  // ext4 has no more names for one file.
  {
    of: 'names of one file',
    make: (path, i) => (i === 0 ? makeFile(path, i) : linkSync(path(0), path(i))),
    entries: Math.min(ENTRIES, 65_000),
    regular: () => 1,
    moreMib: LINKS_MIB,
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

it.each(TREES)('an archive of $of is written and read in less than a bound', (tree) => {
  const { of, make, entries = ENTRIES, regular, moreMib = 0 } = tree;
  using scratch = new Scratch(process.env['STILLFRAME_DIR'] ?? tmpdir());
  const directoryOf = (i: number): string => scratch.in(`tree/${Math.floor(i / PER_DIRECTORY)}`);
  const path = (i: number): string => join(directoryOf(i), `a name of some length, ${i}`);
  for (let i = 0; i < entries; i++) {
    if (i % PER_DIRECTORY === 0) mkdirSync(directoryOf(i), { recursive: true });
    make(path, i);
  }
  const archive = scratch.in('x.tar');
  const written = measure(`writing ${entries} ${of}`, write, scratch.in('tree'), archive);
  const verified = measure('verifying', verify, '', archive);
  const extracted = measure('verifying and extracting', extract, scratch.in('out'), archive);
  expect([written.entries, verified.entries]).toEqual([regular(entries), regular(entries)]);
  expect(extracted.entries).toBe(entries + Math.ceil(entries / PER_DIRECTORY) + 1);
  expect(written.peakKib / 1024).toBeLessThan(writeMib(moreMib));
  expect(verified.peakKib / 1024).toBeLessThan(READ_MIB);
  expect(extracted.peakKib / 1024).toBeLessThan(READ_MIB);
});
