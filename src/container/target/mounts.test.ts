import { describe, expect, it } from 'vitest';
import { mountAt, overlayOf, parseMounts, type OverlayRoot } from './mounts.js';

const line = (mountPoint: string, fsType: string, options: string): string =>
  `69 46 0:39 / ${mountPoint} rw,relatime shared:1 - ${fsType} ${fsType} ${options}`;

/** Of a root that is alone on its mount point. */
const overlayIn = (text: string, rootfs: string, isMountPoint = true): OverlayRoot | undefined =>
  overlayOf({ mount: parseMounts(text)[0]!, isMountPoint }, rootfs);

describe('the mounts of a container', () => {
  it('are parsed with their escapes, the later hiding the earlier', () => {
    const mounts = parseMounts(
      [line('/a\\040b', 'ext4', 'rw'), line('/a\\040b', 'tmpfs', 'rw,size=4k'), ''].join('\n'),
    );
    expect(mounts).toHaveLength(2);
    expect(mountAt(mounts, '/a b')).toMatchObject({ fsType: 'tmpfs', device: '0:39', id: 69 });
    expect(mountAt(mounts, '/a b')?.superOptions.get('size')).toEqual(['4k']);
    expect(mountAt(mounts, '/c')).toBeUndefined();
  });
});

describe("an overlay's directories", () => {
  it('are the upper one and the layers, nearest first, with colons and commas in their names', () => {
    const root = line('/', 'overlay', 'rw,lowerdir=/l/one\\134:two:/l/three\\054,upperdir=/u\\040p,workdir=/w');
    expect(overlayIn(root, '/x')).toEqual({
      upperDir: '/u p',
      lowerDirs: ['/l/one:two', '/l/three,'],
      device: '0:39',
      xattrPrefix: 'trusted.overlay.',
    });
  });

  it('are also known as Linux 6.5 lists them, and by data layers', () => {
    const root = line('/', 'overlay', 'rw,lowerdir+=/l1,lowerdir+=/l2,datadir+=/d,upperdir=/u,workdir=/w,userxattr');
    expect(overlayIn(root, '/x')).toMatchObject({ lowerDirs: ['/l1', '/l2', '/d'], xattrPrefix: 'user.overlay.' });
    expect(overlayIn(line('/', 'overlay', 'rw,lowerdir=/a::/b,upperdir=/u,workdir=/w'), '/x')?.lowerDirs).toEqual([
      '/a',
      '/b',
    ]);
  });

  it('are resolved where an engine mounted with short, relative names', () => {
    const root = line('/', 'overlay', 'rw,lowerdir=l/AB:l/CD,upperdir=id/diff,workdir=id/work');
    expect(overlayIn(root, '/store/overlay/id/merged')).toMatchObject({
      upperDir: '/store/overlay/id/diff',
      lowerDirs: ['/store/overlay/l/AB', '/store/overlay/l/CD'],
    });
  });

  it('are none where the root is read-only, no overlay, a directory of one, or not alone on its mount point', () => {
    const upper = 'rw,lowerdir=/a,upperdir=/u,workdir=/w';
    expect(overlayIn(line('/', 'overlay', 'ro,lowerdir=/a:/b'), '/x')).toBeUndefined();
    expect(overlayIn(line('/', 'ext4', upper), '/x')).toBeUndefined();
    expect(overlayIn(line('/', 'overlay', upper).replace(' / / ', ' /below / '), '/x')).toBeUndefined();
    expect(overlayIn(line('/', 'overlay', upper), '/x', false)).toBeUndefined();
  });
});
