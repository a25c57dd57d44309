/** What the processes lived in: mounts, cgroups; and what CRIU measured. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { printable, readMember, walkMembers } from '../../archive/index.js';
import { readDumpStats, readMounts, type DumpedCgroups, type DumpStats } from '../../criu/index.js';
import type { InspectedCgroup, InspectedMembership, InspectedMount, InspectedProcess } from './inspected.js';
import type { DumpedImagesOf } from './open-images.js';

/** Those of every mount namespace that was dumped, whose processes have it in `mountNamespace`. */
export async function inspectMounts(dir: string, processes: readonly InspectedProcess[]): Promise<InspectedMount[]> {
  const mounts: InspectedMount[] = [];
  for (const namespace of new Set(processes.flatMap(({ mountNamespace }) => mountNamespace ?? []))) {
    if (!existsSync(join(dir, `mountpoints-${namespace}.img`))) continue;
    for (const { id, parentId, type, mountPoint, source, root, options, external } of await readMounts(dir, namespace))
      mounts.push({
        ...{ namespace, id, parentId, external },
        type: type === undefined ? undefined : printable(Buffer.from(type, 'latin1')),
        mountPoint: printable(mountPoint),
        source: printable(source),
        root: printable(root),
        options: printable(options),
      });
  }
  return mounts;
}

export function inspectCgroups({ cgroups }: DumpedCgroups): InspectedCgroup[] {
  return cgroups.map(({ controllers, path, properties }) => ({
    controllers: controllers.map((name) => printable(name)).join(','),
    path: printable(path),
    // A value ends with a line end, as its file does.
    properties: properties.map(({ name, value }) => ({ name: printable(name), value: printable(withoutEnd(value)) })),
  }));
}

export function membershipsOf({ sets }: DumpedCgroups, id: number | undefined): InspectedMembership[] {
  const members = id === undefined ? [] : (sets.get(id) ?? []);
  return members.map(({ controllers, path }) => ({ controllers: printable(controllers), path: printable(path) }));
}

function withoutEnd(value: Buffer): Buffer {
  return value.at(-1) === 0x0a ? value.subarray(0, -1) : value;
}

const STATS = 'stats-dump';
const MAX_STATS_BYTES = 64 * 1024;

/** Beside the images in every engine's archives. */
export async function inspectStatistics({ archive, members, dir }: DumpedImagesOf): Promise<DumpStats | undefined> {
  const place = members.get(STATS);
  if (place?.type !== 'file') return undefined;
  for await (const member of walkMembers(archive, { start: place.headerOffset, end: place.end })) {
    await writeFile(join(dir, STATS), await readMember(archive, member, MAX_STATS_BYTES), { mode: 0o600 });
    return readDumpStats(dir);
  }
  return undefined;
}
