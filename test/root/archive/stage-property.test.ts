import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ArchiveWriter, openArchive, Stage, verifyArchive } from '../../../src/archive/index.js';
import type { Entry } from '../../../src/archive/format/entry.js';
import { changing, making, RandomTree } from './random-tree.js';
import { listTree, Scratch, untar } from './trees.js';

/** More of them: `STILLFRAME_TEST_RUNS=1000 npx vitest run ...`. */
const numRuns = Number(process.env['STILLFRAME_TEST_RUNS'] ?? 120);
/** The kernel tells what changed; or all is looked at. */
const watchFromMs = fc.constantFrom(0, 0, Infinity);
/** A filter sees all members: then none are made in C. */
const filter = fc.constantFrom(undefined, (entry: Entry) => entry);
const layout = fc.constantFrom('members' as const, 'nested' as const);

test(
  'any tree, changed in any way after the first copy, is archived as it stands at the refresh',
  { timeout: 600_000 },
  async () => {
    await fc.assert(
      fc.asyncProperty(
        making,
        fc.array(changing, { minLength: 1, maxLength: 2 }),
        layout,
        filter,
        watchFromMs,
        async (make, changes, how, seen, fromMs) => {
          using directory = new Scratch();
          const tree = new RandomTree(directory.dir('tree'));
          tree.take(make);
          await using writer = await ArchiveWriter.create({ outputPath: directory.in('x.tar') });
          const stage = new Stage(writer, [{ path: directory.in('tree'), name: 'tree', layout: how, filter: seen }], {
            watchFromMs: fromMs,
          });
          for (const steps of changes) {
            await stage.precopy({ mapped: () => new Set(), maxPasses: 1 });
            tree.take(steps);
          }
          await stage.refresh({ mapped: new Set(), writable: () => new Set() });
          const stood = listTree(directory.in('tree'));
          await writer.seal({ subject: {} });

          const opened = await openArchive(directory.in('x.tar'));
          await verifyArchive(opened).finally(() => opened.close());
          untar(directory.in('x.tar'), directory.in('out'));
          if (how === 'nested') untar(directory.in('out/tree'), directory.in('inner'));
          expect(listTree(directory.in(how === 'nested' ? 'inner' : 'out/tree'))).toEqual(stood);
        },
      ),
      { numRuns },
    );
  },
);
