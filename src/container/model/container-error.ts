import type { Warning } from '../../checkpoint/warnings/warning.js';
import { badOptionText, type BadOption } from '../../bad-option.js';
import { StillframeError, type ErrorTexts, type FactsOf } from '../../errors.js';

/** What is known when each code comes. */
export interface ContainerFacts {
  NO_SUCH_CONTAINER: { runtime: string; id: string; searched: string[] };
  AMBIGUOUS_CONTAINER: { runtime: string; id: string; roots: string[] };
  CONTAINER_NOT_RUNNING: { runtime: string; id: string; state: string };
  CONTAINER_ROOTLESS: { runtime: string; id: string };
  PID_IN_CONTAINER: { pid: number; engine: string; runtime: string; name: string };
  RUNTIME_MISSING: { runtime: string; command: string };
  RUNTIME_FAILED: { command: string; status: number | string; stderr: string; dropped?: Dropped[]; warning?: Warning };
  STATE_UNREADABLE: { path: string; what?: string };
  BUNDLE_UNREADABLE: { path: string; what?: string };
  ROOTFS_MISSING: { bundle: string; rootfs: string };
  ROOTFS_NOT_EMPTY: { rootfs: string; archivePath: string };
  NO_OVERLAY: { id: string; rootfs: string; fsType: string };
  OVERLAY_HIDDEN: { id: string; rootfs: string };
  OVERLAY_UNSUPPORTED: { upperDir: string; name: string; feature: string };
  WHITEOUT_NAME: { id: string; path: string };
  PODMAN_DATABASE: { path: string; what: string };
  OUTSIDE_FILES: { id: string; descriptors: string[] };
  CONTAINER_EXISTS: { runtime: string; id: string };
  OUTPUT_EXISTS: { path: string };
  ARCHIVES_KEPT: { path: string; directory: string };
  NOT_A_CONTAINER_CHECKPOINT: { archivePath: string; what: string };
  FOREIGN_CHECKPOINT: { archivePath: string };
  BAD_OPTION: BadOption;
}

/** Of a restore that failed: what was left out of the configuration that the archive brought along. */
export interface Dropped {
  /** By which value of `keep` it can be kept; undefined for what never is. */
  setting: string | undefined;
  what: string;
}

export type ContainerErrorCode = keyof ContainerFacts;

/** Every error about containers, their runtimes and their images. Match on `code`. */
export class ContainerError<C extends ContainerErrorCode = ContainerErrorCode> extends StillframeError<
  C,
  FactsOf<ContainerFacts, C>
> {
  override readonly name = 'ContainerError';
  constructor(code: C, facts: ContainerFacts[C] & { cause?: unknown }) {
    super(code, texts[code](facts), facts);
  }
}

const because = (what: string | undefined): string => (what === undefined ? '' : `: ${what}`);

const texts: ErrorTexts<ContainerFacts> = {
  NO_SUCH_CONTAINER: (f) => ({
    what:
      `there is no ${f.runtime} container ${f.id} (looked in ` +
      `${f.searched.join(', ') || 'no directory: none exists'})`,
    remedy: 'Check the id. If the runtime keeps its state elsewhere, name that directory with `stateRoot`.',
  }),
  AMBIGUOUS_CONTAINER: (f) => ({
    what: `there are several ${f.runtime} containers ${f.id}: in ${f.roots.join(', ')}`,
    remedy: 'Say which one with `stateRoot`.',
  }),
  CONTAINER_NOT_RUNNING: (f) => ({
    what: `the ${f.runtime} container ${f.id} is ${f.state}: there is nothing to checkpoint`,
    remedy: 'Start the container first.',
  }),
  CONTAINER_ROOTLESS: (f) => ({
    what:
      `the ${f.runtime} container ${f.id} is rootless (it has a user namespace): CRIU cannot restore it as its ` +
      'runtime would',
    remedy: 'Run the container as root, without a user namespace of its own.',
  }),
  PID_IN_CONTAINER: (f) => ({
    what: `process ${f.pid} is in the ${f.engine} container ${f.name}`,
    remedy: `Checkpoint the container: \`${f.runtime}: ${f.name}\`.`,
  }),
  RUNTIME_MISSING: (f) => ({
    what: `the command ${f.command} of the runtime ${f.runtime} is not installed`,
    remedy: `Install ${f.runtime}, or put its command on PATH.`,
  }),
  RUNTIME_FAILED: (f) => ({
    what: `${f.command} ended with ${f.status}: ${lastLines(f.stderr)}`,
    remedy: f.warning === undefined ? withoutDropped(f.dropped) : `${f.warning.message}. ${f.warning.remedy}`,
  }),
  STATE_UNREADABLE: (f) => ({
    what: `the container's state file ${f.path} cannot be used${because(f.what)}`,
    remedy: 'It may have been written by an unsupported version of the runtime.',
  }),
  BUNDLE_UNREADABLE: (f) => ({
    what: `the container's configuration ${f.path} cannot be used${because(f.what)}`,
    remedy: 'Name the bundle directory, with its config.json, as `bundle`.',
  }),
  ROOTFS_MISSING: (f) => ({
    what: `the bundle ${f.bundle} has no root file system that can be opened at ${f.rootfs}`,
    remedy:
      "Make that directory, with the container's image in it (an overlay over the image's layers, or a copy), or name another bundle with `bundle`.",
  }),
  ROOTFS_NOT_EMPTY: (f) => ({
    what: `${f.archivePath} holds a whole root file system, and ${f.rootfs} is not empty: files that the container had deleted would come back`,
    remedy: 'Nothing was changed. Empty that directory, or name a bundle with an empty one with `bundle`.',
  }),
  NO_OVERLAY: (f) => ({
    what:
      `the root of container ${f.id} (${f.rootfs}) is on ${f.fsType}, not on an overlay: its changes cannot be told ` +
      'apart from its image',
    remedy: 'Archive the whole root file system: `wholeRootfs: true`.',
  }),
  OVERLAY_HIDDEN: (f) => ({
    what:
      `the root of container ${f.id} is an overlay, but not one that is mounted, alone, on ${f.rootfs} here: the ` +
      'location of its upper directory on this machine is unknown',
    remedy:
      'Run this in the mount namespace of the engine that mounted it. What the container itself says of its mounts ' +
      'is not trusted, because it could name any directory.',
  }),
  OVERLAY_UNSUPPORTED: (f) => ({
    what:
      `${f.name} in the overlay's upper directory ${f.upperDir} uses ${f.feature}: it refers to the layers below, ` +
      'and cannot be archived alone',
    remedy: 'Mount the overlay with metacopy=off,redirect_dir=off (the default of the container engines).',
  }),
  WHITEOUT_NAME: (f) => ({
    what:
      `container ${f.id} has a file named ${f.path}: containerd would take it for the mark of a deletion, and ` +
      'neither restore it nor keep what it seems to name',
    remedy: 'Rename or remove that file, or keep it in a volume, which is not part of the root file system.',
  }),
  PODMAN_DATABASE: (f) => ({
    what: `Podman's database ${f.path} ${f.what}`,
    remedy: 'Podman 4 (BoltDB) and 5 (SQLite; needs the sqlite3 command or Node 22.5) are known.',
  }),
  OUTSIDE_FILES: (f) => ({
    what:
      `standard streams of container ${f.id} are files outside the container: ${f.descriptors.join(', ')}; CRIU ` +
      'cannot dump them',
    remedy: 'Start the container with pipes or /dev/null as its standard streams, as container managers do.',
  }),
  CONTAINER_EXISTS: (f) => ({
    what: `there is a ${f.runtime} container ${f.id} already`,
    remedy: 'Restore under another id, or delete that container.',
  }),
  OUTPUT_EXISTS: (f) => ({ what: `${f.path} exists`, remedy: 'Remove it, or choose another name.' }),
  ARCHIVES_KEPT: (f) => ({
    what:
      "the pod's archives were complete and its containers about to end, or ended, when the directory " +
      `${f.directory} could not be finished: the archives are in ${f.path}`,
    remedy: 'Each of them is whole: rename the directory, and restore the containers that have ended.',
  }),
  NOT_A_CONTAINER_CHECKPOINT: (f) => ({
    what: `${f.archivePath} is not a container's checkpoint: ${f.what}`,
    remedy: 'Restore a process tree with: stillframe restore ARCHIVE',
  }),
  FOREIGN_CHECKPOINT: (f) => ({
    what:
      `${f.archivePath} is a container checkpoint written by another engine: it has no hashes, so its integrity ` +
      'cannot be verified',
    remedy: 'Restore it with that engine, for Podman: podman container restore --import ARCHIVE',
  }),
  BAD_OPTION: badOptionText,
};

/** The container may need something of it: then that is why the runtime failed. */
function withoutDropped(dropped: readonly Dropped[] = []): string {
  if (dropped.length === 0) return '';
  const settings = [...new Set(dropped.flatMap(({ setting }) => setting ?? []))];
  const keep = settings.map((setting) => `\`keep: ${setting}\``).join(', ');
  return [
    "It was tried without what the archive's configuration asks of this machine: " +
      `${dropped.map(({ what }) => what).join(', ')}.`,
    ...(settings.length === 0 ? [] : [`What the container needs of that can be kept: ${keep}.`]),
  ].join(' ');
}

function lastLines(text: string): string {
  return text.trim().split('\n').slice(-6).join(' | ') || 'it said nothing';
}
