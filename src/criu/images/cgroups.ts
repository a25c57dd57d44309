import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cgroup_entry, type cgroup_dir_entry } from '../generated/criu.js';
import { imageEntries } from './image-file.js';

const CGROUP_MAGIC = 0x59383330;
const SLASH = Buffer.from('/');

/** A cgroup of the dump, with what was set in it. Texts are bytes, as Linux has them. */
export interface DumpedCgroup {
  /** The controllers of its hierarchy; '' is that of cgroup v2. */
  controllers: Buffer[];
  path: Buffer;
  properties: { name: Buffer; value: Buffer }[];
}

export interface DumpedCgroups {
  /** By the ids that tasks refer to: the cgroups that a task is in, one of each hierarchy. */
  sets: Map<number, { controllers: Buffer; path: Buffer }[]>;
  /** Those that the restore can make. Empty with `manageCgroups: 'ignore'`. */
  cgroups: DumpedCgroup[];
}

/**
 * Reads `cgroup.img`; dumps without cgroups have none.
 * @throws CriuError CRIU_IMAGE
 */
export async function readCgroups(imagesDir: string): Promise<DumpedCgroups> {
  const path = join(imagesDir, 'cgroup.img');
  const found: DumpedCgroups = { sets: new Map(), cgroups: [] };
  if (!existsSync(path)) return found;
  for await (const { sets, controllers } of imageEntries(path, CGROUP_MAGIC, (data) => cgroup_entry.decode(data))) {
    for (const { id, ctls } of sets) {
      const members = ctls.map((one) => ({ controllers: Buffer.from(one.name), path: Buffer.from(one.path) }));
      found.sets.set(id, members);
    }
    for (const { cnames, dirs } of controllers)
      found.cgroups.push(
        ...flat(
          cnames.map((one) => Buffer.from(one)),
          dirs,
        ),
      );
  }
  return found;
}

/** Directories before what is in them. A decoder has bounded their depth. */
function flat(controllers: Buffer[], dirs: readonly cgroup_dir_entry[], above = Buffer.alloc(0)): DumpedCgroup[] {
  return dirs.flatMap(({ dirName, children, properties }) => {
    // A name of the first level is a path, with or without a slash in front.
    const name = Buffer.from(dirName);
    const path = Buffer.concat([above, SLASH, name[0] === SLASH[0] ? name.subarray(1) : name]);
    const set = properties.map(({ name, value }) => ({ name: Buffer.from(name), value: Buffer.from(value) }));
    return [{ controllers, path, properties: set }, ...flat(controllers, children, path)];
  });
}
