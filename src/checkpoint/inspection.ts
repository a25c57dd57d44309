import { ArchiveError, printable, type Manifest, type MemberInTurn } from '../archive/index.js';
import { ROOTFS_DIFF } from './base/container-members.js';
import { ForeignReader, type ForeignCheckpoint } from './foreign-checkpoint.js';
import { recordedWarnings, type RecordedWarning } from './warnings/recorded.js';

export interface ArchiveMember {
  /** For people: bytes that are not UTF-8, and control characters, are shown as `\xNN`. */
  name: string;
  type: string;
  /** Apparent size of a regular file, in bytes. */
  bytes: number;
}

/** What takes the space, in bytes. */
export interface ArchiveSizes {
  /** CRIU's images, and of them those that hold memory. */
  images: number;
  memory: number;
  /** What a container changed of its image; 0 where there is no such member. */
  rootfsDiff: number;
}

export interface ArchiveInspection {
  archivePath: string;
  compression: 'none' | 'gzip' | 'zstd';
  /** Undefined for an archive that another engine wrote. */
  manifest: Manifest | undefined;
  /** What the archive of another engine (Podman, CRI-O, containerd) says of itself; undefined for any other archive. */
  foreign: ForeignCheckpoint | undefined;
  /** What the archive says of the container, whoever wrote it; undefined for an archive of none. */
  container: ForeignCheckpoint | undefined;
  sizes: ArchiveSizes;
  /** What the checkpoint warned of. */
  warnings: RecordedWarning[];
  memberCount: number;
  /** Apparent sizes of all members together, in bytes. */
  memberBytes: number;
  /** Empty when `onMember` takes them. */
  members: ArchiveMember[];
}

/** The list of an archive's members may take this much memory. Eight million short names do. */
const MAX_LIST_BYTES = 2 ** 30;
/** What a member takes beside its name. */
const BYTES_OF_MEMBER = 100;

export type OnMember = (member: ArchiveMember) => Promise<void> | undefined;

/** Sees an archive's members pass by, and says at the end what they are together. */
export class InspectionReader {
  readonly #archivePath: string;
  readonly #onMember: OnMember | undefined;
  readonly #container = new ForeignReader();
  readonly #members: ArchiveMember[] = [];
  readonly #sizes: ArchiveSizes = { images: 0, memory: 0, rootfsDiff: 0 };
  #count = 0;
  #bytes = 0;
  #listBytes = 0;

  /** @param onMember Takes the members, of which no list is made then. */
  constructor(archivePath: string, onMember?: OnMember) {
    this.#archivePath = archivePath;
    this.#onMember = onMember;
  }

  /** @throws ArchiveError ARCHIVE_UNSUPPORTED for a list that is too long */
  async look(member: MemberInTurn): Promise<void> {
    const { name, type, size } = member.entry;
    const shown = { name: printable(name), type, bytes: size };
    this.#count++;
    this.#bytes += size;
    if (type === 'file') this.#measure(name.toString('latin1'), size);
    if (this.#onMember !== undefined) await this.#onMember(shown);
    else {
      this.#listBytes += name.length + BYTES_OF_MEMBER;
      if (this.#listBytes > MAX_LIST_BYTES)
        throw new ArchiveError('ARCHIVE_UNSUPPORTED', {
          archivePath: this.#archivePath,
          what: `more members than fit into a list of ${MAX_LIST_BYTES} bytes: take them one by one (\`onMember\`)`,
        });
      this.#members.push(shown);
    }
    await this.#container.look(member);
  }

  #measure(name: string, size: number): void {
    if (name === ROOTFS_DIFF) this.#sizes.rootfsDiff = size;
    if (!name.startsWith('checkpoint/')) return;
    this.#sizes.images += size;
    if (/^checkpoint\/pages-[^/]*$/.test(name)) this.#sizes.memory += size;
  }

  end({ compression, manifest }: Pick<ArchiveInspection, 'compression' | 'manifest'>): ArchiveInspection {
    const container = this.#container.found();
    return {
      archivePath: this.#archivePath,
      compression,
      manifest,
      foreign: manifest === undefined ? container : undefined,
      container,
      sizes: this.#sizes,
      warnings: recordedWarnings(manifest?.subject ?? {}),
      memberCount: this.#count,
      memberBytes: this.#bytes,
      members: this.#members,
    };
  }
}
