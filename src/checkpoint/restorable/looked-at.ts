/** Of an archive: where CRIU's images are, and which files of the dumped processes lie where. */
import {
  bytesFromJson,
  locateMembers,
  type MemberPlace,
  type OpenArchive,
  type TarRange,
  type VerifiedArchive,
} from '../../archive/index.js';
import { ROOTFS_DIFF } from '../base/container-members.js';

const IMAGES = 'checkpoint';

export interface LookedAt {
  archive: OpenArchive;
  images: TarRange | undefined;
  trees: SearchedTree[];
}

export interface SearchedTree {
  range: TarRange;
  /** What its root is called there, in latin1. */
  root: string;
  /** The path of its root as the processes had it, in latin1, without a slash at its end. */
  source: string;
  /** A file that is missing there is nowhere: the tree is neither a part of something nor were files left out. */
  isWhole: boolean;
}

export function partsOf({ archive, manifest, members, trees }: VerifiedArchive): LookedAt {
  const isContainer = manifest.subject['container'] !== undefined;
  return {
    archive,
    images: rangeOf(members.get(IMAGES)),
    trees: trees
      // Where the other trees of a container are mounted in it, no archive says.
      .filter(({ name }) => !isContainer || name.toString() === ROOTFS_DIFF)
      .map(({ record, range, root }) => ({
        range,
        root,
        source: isContainer ? '' : bytesFromJson(record.source).toString('latin1').replace(/\/+$/, ''),
        isWhole: !isContainer && (record.exclude ?? []).length === 0,
      })),
  };
}

/** The same of another engine's archive of a container. */
export async function partsOfForeign(archive: OpenArchive, signal: AbortSignal | undefined): Promise<LookedAt> {
  const members = await locateMembers(archive, signal);
  const diff = members.get(ROOTFS_DIFF);
  return {
    archive,
    images: rangeOf(members.get(IMAGES)),
    trees:
      diff === undefined
        ? []
        : [
            {
              range: { start: diff.dataOffset, end: diff.dataOffset + diff.storedBytes },
              root: '.',
              source: '',
              isWhole: false,
            },
          ],
  };
}

function rangeOf(place: MemberPlace | undefined): TarRange | undefined {
  return place === undefined ? undefined : { start: place.headerOffset, end: place.end };
}
