import { tmpdir } from 'node:os';
import { placesFor, PrivateDir } from '../base/private-dir.js';
import { readImages } from './dumped-images.js';
import type { LookedAt } from './looked-at.js';
import { expectedFiles, recordedFiles, searchTree } from './recorded-files.js';
import type { Restorability } from './restorability.js';

/**
 * Compares what CRIU's images say of processes, memory and files with what the archive holds: CRIU refuses a restore
 * for the first difference, and says so only then.
 * Source: criu/files-reg.c, open_path and validate_file; criu/pagemap.c, CRIU v4.2.
 * @throws CheckpointError WORK_DIR_UNUSABLE; ArchiveError for a tar that cannot be read
 */
export async function lookWhetherRestorable(
  { archive, images, trees }: LookedAt,
  { tmpDir = tmpdir(), signal }: { tmpDir?: string | undefined; signal?: AbortSignal | undefined },
): Promise<Restorability> {
  if (images === undefined) {
    const message = 'checkpoint/: the archive holds no images of CRIU';
    return { processes: 0, faults: [{ kind: 'image', member: 'checkpoint', message }], expected: [] };
  }
  await using dir = await PrivateDir.make(placesFor(tmpDir));
  const { processes, files, users, faults } = await readImages(archive, images, dir.path, signal);
  const recorded = recordedFiles(files, users);
  const found = [faults];
  for (const tree of trees) found.push(await searchTree(archive, tree, recorded, signal));
  return { processes, faults: found.flat(), expected: expectedFiles(recorded) };
}
