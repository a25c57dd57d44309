import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ArchiveWriter, openArchive, Stage, verifyArchive } from '../../../src/archive/index.js';
import { changing, making, RandomTree } from './random-tree.js';
import { listTree, Scratch, untar } from './trees.js';

/** More of them: `STILLFRAME_TEST_RUNS=1000 npx vitest run ...`. */
const numRuns = Number(process.env['STILLFRAME_TEST_RUNS'] ?? 120);
const layout = fc.constantFrom('members' as const, 'nested' as const);

test('any tree, changed in any way after the first copy, is archived as it stands at the refresh', { timeout: 600_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(making, fc.array(changing, { minLength: 1, maxLength: 2 }), layout, async (make, changes, how) => {
      using scratch = new Scratch();
      const tree = new RandomTree(scratch.dir('tree'));
      tree.take(make);
      await using writer = await ArchiveWriter.create({ outputPath: scratch.in('x.tar') });
      const stage = new Stage(writer, [{ path: scratch.in('tree'), name: 'tree', layout: how }]);
      for (const steps of changes) {
        await stage.precopy({ mapped: () => new Set(), maxPasses: 1 });
        tree.take(steps);
      }
      await stage.refresh({ mapped: new Set() });
      const stood = listTree(scratch.in('tree'));
      await writer.seal({ subject: {} });

      const opened = await openArchive(scratch.in('x.tar'));
      await verifyArchive(opened).finally(() => opened.close());
      untar(scratch.in('x.tar'), scratch.in('out'));
      if (how === 'nested') untar(scratch.in('out/tree'), scratch.in('inner'));
      expect(listTree(scratch.in(how === 'nested' ? 'inner' : 'out/tree'))).toEqual(stood);
    }),
    { numRuns },
  );
});
