/** What the writing of an archive takes of memory, seen from outside: by the kernel's own record of a process of its own. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Scratch } from '../root/archive/trees.js';

const ENTRIES = Number(process.env['STILLFRAME_ENTRIES'] ?? 300_000);
const PER_DIRECTORY = 1000;
const BOUND_MIB = 150;

const child = `
  import { readFileSync } from 'node:fs';
  const { ArchiveWriter, Stage } = await import(process.argv[1]);
  const writer = await ArchiveWriter.create({ outputPath: process.argv[3] });
  const stage = new Stage(writer, [{ path: process.argv[2], name: 'tree' }]);
  await stage.precopy({ mapped: () => new Set() });
  await stage.refresh({ mapped: new Set(), writable: () => new Set() });
  const { members } = await writer.seal({ subject: {} });
  const peakKib = Number(/^VmHWM:\\s+(\\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'))[1]);
  console.log(JSON.stringify({ members, peakKib }));
`;

it(`an archive of ${ENTRIES} files is written in less than ${BOUND_MIB} MiB`, () => {
  using scratch = new Scratch(process.env['STILLFRAME_DIR'] ?? tmpdir());
  for (let i = 0; i < ENTRIES; i++) {
    const directory = scratch.in(`tree/${Math.floor(i / PER_DIRECTORY)}`);
    if (i % PER_DIRECTORY === 0) mkdirSync(directory, { recursive: true });
    closeSync(openSync(join(directory, `a name of some length, ${i}`), 'w'));
  }
  const library = fileURLToPath(new URL('../../dist/src/archive/index.js', import.meta.url));
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', child, library, scratch.in('tree'), scratch.in('x.tar')], { encoding: 'utf8' });
  const { members, peakKib } = JSON.parse(output) as { members: number; peakKib: number };
  console.log(`${members} files: at most ${Math.ceil(peakKib / 1024)} MiB resident`);
  expect(members).toBe(ENTRIES);
  expect(peakKib / 1024).toBeLessThan(BOUND_MIB);
});
