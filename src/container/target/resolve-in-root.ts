import { readlinkSync } from 'node:fs';
import { errnoOf } from '../../errors.js';

/** As many as the kernel follows. Source: Linux, include/linux/namei.h, MAXSYMLINKS. */
const MAX_LINKS = 40;

/**
 * Where a path of a container really leads, links followed as if `root` were `/`: an image has `/var/run` as a link to
 * `/run`, and the mount that the configuration asks for at the one shows at the other. What does not exist stays as it
 * is.
 */
export function resolveInRoot(root: string, path: string): string {
  const done: string[] = [];
  const left = path.split('/').reverse();
  for (let links = 0; left.length > 0;) {
    const part = left.pop();
    if (part === undefined || part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    const link = readLink(`${root}/${[...done, part].join('/')}`);
    if (link === undefined || ++links > MAX_LINKS) {
      done.push(part);
      continue;
    }
    if (link.startsWith('/')) done.length = 0;
    left.push(...link.split('/').reverse());
  }
  return `/${done.join('/')}`;
}

function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch (error) {
    if (['EINVAL', 'ENOENT', 'ENOTDIR', 'ELOOP'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
