import { constants } from 'node:fs';
import { open, readFile, readlink } from 'node:fs/promises';
import { dirname, isAbsolute, resolve } from 'node:path';
import { mountLines, type MountLine } from '../../proc/mountinfo.js';
import { unescapeOctal } from '../../proc/octal.js';

const O_PATH = 0o10000000;

/** A mount as the processes of one mount namespace see it, its paths as they are. */
export interface Mount extends Omit<MountLine, 'superOptions'> {
  /** Options of the file system. A repeated one has several values; one without a value has ''. */
  superOptions: Map<string, string[]>;
}

/** The overlay that is a container's root. */
export interface OverlayRoot {
  /** What the container added and changed. */
  upperDir: string;
  /** The layers below, the nearest first. */
  lowerDirs: string[];
  /** `major:minor` of the overlay itself. */
  device: string;
  /** Attributes with this prefix are the overlay's own. */
  xattrPrefix: 'trusted.overlay.' | 'user.overlay.';
}

/** What this process, and with it the machine's administrator, sees of a container's root file system. */
export interface RootView {
  /** The mount that the directory is the root of, or lies on. */
  mount: Mount;
  /** The directory is where `mount`, and no other mount, is mounted. */
  isMountPoint: boolean;
}

/** The mounts of a process's own mount namespace. */
export async function readMounts(pid: number | 'self'): Promise<Mount[]> {
  return parseMounts(await readFile(`/proc/${pid}/mountinfo`, 'utf8'));
}

export function parseMounts(text: string): Mount[] {
  return mountLines(text).map(({ root, mountPoint, source, superOptions, ...rest }) => ({
    ...rest,
    root: unescapeOctal(root),
    mountPoint: unescapeOctal(mountPoint),
    source: unescapeOctal(source),
    superOptions: parseOptions(superOptions),
  }));
}

/** The mount that is visible at a path: the last one there hides those before it. */
export function mountAt(mounts: readonly Mount[], path: string): Mount | undefined {
  return mounts.findLast((mount) => mount.mountPoint === path);
}

/**
 * The mount of a directory of this machine, by the number that the kernel gives it: what a container says of its own
 * mounts proves nothing, since one that may mount can put another overlay, with any path as its upper directory, over
 * its root.
 * @throws an errno error where there is no such directory
 */
export async function readRootView(rootfs: string): Promise<RootView | undefined> {
  const directory = await open(rootfs, O_PATH | constants.O_DIRECTORY);
  try {
    const { fd } = directory;
    const mountId = Number(/^mnt_id:\s*(\d+)/m.exec(await readFile(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]);
    const mounts = await readMounts('self');
    const mount = mounts.find(({ id }) => id === mountId);
    if (mount === undefined) return undefined;
    const top = await readlink(`/proc/self/fd/${fd}`);
    // A second one on top may have come out of the container, where mounts are shared.
    const stacked = mounts.filter(({ mountPoint }) => mountPoint === top);
    return { mount, isMountPoint: stacked.length === 1 && stacked[0] === mount };
  } finally {
    await directory.close();
  }
}

/**
 * The container's root, when it is an overlay with an upper directory. Paths in a mount's options are as the one who
 * mounted saw them: only those of a mount that was made in this mount namespace mean what they say here.
 * @param rootfs the root's directory on this machine: an engine that mounted with relative layers did so from two
 * levels above it. Source: Documentation/filesystems/overlayfs.rst, Linux v6.12; containers/storage,
 * drivers/overlay/overlay.go, v1.55.
 */
export function overlayOf({ mount, isMountPoint }: RootView, rootfs: string): OverlayRoot | undefined {
  const upper = mount.superOptions.get('upperdir')?.[0];
  if (!isMountPoint || mount.root !== '/' || mount.fsType !== 'overlay' || upper === undefined) return undefined;
  const base = dirname(dirname(rootfs));
  const absolute = (path: string): string => (isAbsolute(path) ? path : resolve(base, path));
  return {
    upperDir: absolute(unquote(upper)),
    lowerDirs: lowerDirs(mount).map(absolute),
    device: mount.device,
    xattrPrefix: mount.superOptions.has('userxattr') ? 'user.overlay.' : 'trusted.overlay.',
  };
}

/** `lowerdir=a:b::data`, or since Linux 6.5 also `lowerdir+=a,lowerdir+=b,datadir+=data`. */
function lowerDirs({ superOptions }: Mount): string[] {
  const list = (superOptions.get('lowerdir') ?? []).flatMap((value) => value.split(/(?<!\\):+/));
  return [...list, ...(superOptions.get('lowerdir+') ?? []), ...(superOptions.get('datadir+') ?? [])]
    .filter((path) => path !== '')
    .map(unquote);
}

function parseOptions(text: string): Map<string, string[]> {
  const options = new Map<string, string[]>();
  for (const option of text.split(',')) {
    // `lowerdir+=a`: the plus belongs to the name.
    const at = option.indexOf('=');
    const [name, value] = at === -1 ? [option, ''] : [option.slice(0, at), unescapeOctal(option.slice(at + 1))];
    options.set(name, [...(options.get(name) ?? []), value]);
  }
  return options;
}

/** The overlay's own escapes inside a list of directories: `\:` and `\\`. */
function unquote(path: string): string {
  return path.replace(/\\(.)/g, '$1');
}
