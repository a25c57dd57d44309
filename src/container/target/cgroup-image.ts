import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errnoOf } from '../../errors.js';

const NAME = 'freezer.state';

/**
 * Makes the images those of a running container. A dump of a v1 cgroup that was frozen records `freezer.state` as
 * FROZEN, and CRIU's restore, when a runtime tells it to manage cgroups, then brings the container back frozen: seen
 * with runc 1.1.5 and CRIU 4.2.1. Both words have six letters, so that nothing else of the image changes.
 * Source: CRIU v4.2, criu/cgroup.c (add_freezer_state), images/cgroup.proto (cgroup_prop_entry).
 */
export async function thawImages(imagesDir: string): Promise<void> {
  const path = join(imagesDir, 'cgroup.img');
  let image: Buffer;
  try {
    image = await readFile(path);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  const thawed = thawedCgroupImage(image);
  if (!thawed.equals(image)) await writeFile(path, thawed);
}

/** The image with every recorded freezer state THAWED. */
export function thawedCgroupImage(image: Buffer): Buffer {
  const frozen = property('FROZEN');
  const result = Buffer.from(image);
  for (let at = result.indexOf(frozen); at !== -1; at = result.indexOf(frozen, at + 1))
    property('THAWED').copy(result, at);
  return result;
}

/** A cgroup_prop_entry's two strings on the wire: field 1 the name, field 2 the value. */
function property(value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0x0a, NAME.length]),
    Buffer.from(NAME),
    Buffer.from([0x12, value.length]),
    Buffer.from(value),
  ]);
}
