import { readdirSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  ArchiveWriter,
  extractMembers,
  extractTree,
  openArchive,
  readVerifiedMember,
  Stage,
  TreeStaging,
  verifyArchive,
  type TreeLayout,
} from '../../../src/archive/index.js';
import { archiveOf, tree, withScratch, writeArchive, type FixtureMember } from './archive-fixture.js';
import { fingerprint } from './fingerprint.js';
import { odd } from './odd-tree.js';

describe('what goes into an archive comes out of it', () => {
  it.each<TreeLayout>(['members', 'nested'])('whatever a file system can hold, layout %s', (layout) =>
    withScratch(async (dir) => {
      const at = (name: string): string => join(dir, name);
      await using made = await openArchive(await writeArchive(dir, archiveOf(odd, [tree('tree', odd.length)])));
      await extractTree({ verified: await verifyArchive(made), tree: 'tree', destination: at('source') });
      await writeFile(at('single'), 'one file');

      await using writer = await ArchiveWriter.create({ outputPath: at('out.tar') });
      const stage = new Stage(writer, [
        { path: at('source'), name: 'rootfs', layout },
        { path: at('single'), name: 'single' },
      ]);
      await stage.precopy({ mapped: () => new Set() });
      await stage.refresh({ mapped: new Set(), writable: () => new Set() });
      await writer.addTree({ path: at('source'), name: 'checkpoint' });
      await writer.addDocument({ name: 'dump.log', data: 'the log' });
      await writer.seal({ subject: { kind: 'test' } });

      await using archive = await openArchive(at('out.tar'));
      const verified = await verifyArchive(archive);
      expect(verified.manifest.trees.map(({ entries }) => entries)).toEqual([odd.length, 1]);
      await extractTree({ verified, tree: 'rootfs', destination: at('tree') });
      await extractTree({ verified, tree: 'single', destination: at('file') });
      await extractMembers({ verified, prefix: 'checkpoint', destination: at('images') });
      expect(fingerprint(at('tree'))).toEqual(fingerprint(at('source')));
      expect(fingerprint(at('images'))).toEqual(fingerprint(at('source')));
      expect(fingerprint(at('file'))).toEqual(fingerprint(at('single')));
      expect((await readVerifiedMember(verified, 'dump.log', 100)).toString()).toBe('the log');
    }),
  );

  it('made by the pass that verifies it, too', () =>
    withScratch(async (dir) => {
      const at = (name: string): string => join(dir, name);
      const members: FixtureMember[] = [...odd, { name: 'single', stored: 'one file', mode: 0o4711, uid: 12 }];
      const trees = [tree('tree', odd.length), tree('single', 1)];
      await using archive = await openArchive(await writeArchive(dir, archiveOf(members, trees)));
      const watch = { hidden: {}, willPlace: () => Promise.resolve() };
      const stagings = ['tree', 'single'].map(
        (name) => new TreeStaging(archive, name, { destination: at(name), watch, replace: undefined }),
      );
      const verified = await verifyArchive(archive, {
        place: async (member) => (await stagings[0]!.place(member)) ?? stagings[1]!.place(member),
      });
      for (const staging of stagings) await (await staging.finished(undefined))!.takePlace();
      for (const name of ['tree', 'single']) {
        await extractTree({ verified, tree: name, destination: at(`${name}-extracted`) });
        expect(fingerprint(at(name))).toEqual(fingerprint(at(`${name}-extracted`)));
      }
      expect(readdirSync(dir).filter((name) => name.startsWith('.'))).toEqual([]);
    }));
});
