/** A line of /proc/PID/mountinfo. Its paths are as they stand there: `unescapeOctal` makes them what they mean. */
export interface MountLine {
  id: number;
  /** `major:minor` of the file system. */
  device: string;
  /** The directory of the file system that is mounted. */
  root: string;
  mountPoint: string;
  fsType: string;
  source: string;
  superOptions: string;
}

/** File systems that a server answers for. It is not asked: it may be frozen with the tree, or never answer. */
export const ASKS_A_SERVER = /^(?:fuse|nfs|cifs|smb|9p|ceph|afs|gfs2|ocfs2|lustre|virtiofs)/;

/** The mounts in the order of the kernel. Source: Documentation/filesystems/proc.rst, 3.5, Linux v6.12. */
export function mountLines(text: string): MountLine[] {
  const mounts: MountLine[] = [];
  for (const line of text.split('\n')) {
    const at = line.indexOf(' - ');
    if (at === -1) continue;
    const [id = '', , device = '', root = '', mountPoint = ''] = line.slice(0, at).split(' ');
    const [fsType = '', source = '', superOptions = ''] = line.slice(at + 3).split(' ');
    mounts.push({ id: Number(id), device, root, mountPoint, fsType, source, superOptions });
  }
  return mounts;
}
