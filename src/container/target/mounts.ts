import { readFile } from 'node:fs/promises';
import { dirname, isAbsolute, resolve } from 'node:path';

/** One line of /proc/PID/mountinfo: a mount as the container sees it. */
export interface Mount {
  id: number;
  /** `major:minor` of the file system, as in stat(2)'s st_dev. */
  device: string;
  /** The directory of the file system that is mounted. */
  root: string;
  /** Where, in the container. */
  mountPoint: string;
  fsType: string;
  source: string;
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

/** The mounts of a process's own mount namespace. */
export async function readMounts(pid: number): Promise<Mount[]> {
  return parseMounts(await readFile(`/proc/${pid}/mountinfo`, 'utf8'));
}

/** Source: Documentation/filesystems/proc.rst, 3.5, Linux v6.12. */
export function parseMounts(text: string): Mount[] {
  const mounts: Mount[] = [];
  for (const line of text.split('\n')) {
    const at = line.indexOf(' - ');
    if (at === -1) continue;
    const [id = '', , device = '', root = '', mountPoint = ''] = line.slice(0, at).split(' ');
    const [fsType = '', source = '', superOptions = ''] = line.slice(at + 3).split(' ');
    mounts.push({
      id: Number(id),
      device,
      root: unescape(root),
      mountPoint: unescape(mountPoint),
      fsType,
      source: unescape(source),
      superOptions: parseOptions(superOptions),
    });
  }
  return mounts;
}

/** The mount that is visible at a path: the last one there hides those before it. */
export function mountAt(mounts: readonly Mount[], path: string): Mount | undefined {
  return mounts.findLast((mount) => mount.mountPoint === path);
}

/**
 * The container's root, when it is an overlay with an upper directory.
 * @param rootfs the root's directory on the host: an engine that mounted with relative layers did so from two levels above it.
 * Source: Documentation/filesystems/overlayfs.rst, Linux v6.12; containers/storage, drivers/overlay/overlay.go, v1.55.
 */
export function overlayOf(mounts: readonly Mount[], rootfs: string): OverlayRoot | undefined {
  const root = mountAt(mounts, '/');
  const upper = root?.superOptions.get('upperdir')?.[0];
  if (root === undefined || root.fsType !== 'overlay' || upper === undefined) return undefined;
  const base = dirname(dirname(rootfs));
  const absolute = (path: string): string => (isAbsolute(path) ? path : resolve(base, path));
  return {
    upperDir: absolute(unquote(upper)),
    lowerDirs: lowerDirs(root).map(absolute),
    device: root.device,
    xattrPrefix: root.superOptions.has('userxattr') ? 'user.overlay.' : 'trusted.overlay.',
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
    const [name, value] = at === -1 ? [option, ''] : [option.slice(0, at), unescape(option.slice(at + 1))];
    options.set(name, [...(options.get(name) ?? []), value]);
  }
  return options;
}

/** Spaces, tabs, line ends, backslashes and commas come as octal escapes of bytes. */
function unescape(text: string): string {
  if (!text.includes('\\')) return text;
  const bytes = Buffer.from(text)
    .toString('latin1')
    .replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
  return Buffer.from(bytes, 'latin1').toString();
}

/** The overlay's own escapes inside a list of directories: `\:` and `\\`. */
function unquote(path: string): string {
  return path.replace(/\\(.)/g, '$1');
}
