import { describe, expect, it } from 'vitest';
import { mountAt, overlayOf, parseMounts } from './mounts.js';

const line = (mountPoint: string, fsType: string, options: string): string =>
  `69 46 0:39 / ${mountPoint} rw,relatime shared:1 - ${fsType} ${fsType} ${options}`;

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
    const [root] = [
      parseMounts(line('/', 'overlay', 'rw,lowerdir=/l/one\\134:two:/l/three\\054,upperdir=/u\\040p,workdir=/w')),
    ];
    expect(overlayOf(root as never, '/x')).toEqual({
      upperDir: '/u p',
      lowerDirs: ['/l/one:two', '/l/three,'],
      device: '0:39',
      xattrPrefix: 'trusted.overlay.',
    });
  });

  it('are also known as Linux 6.5 lists them, and by data layers', () => {
    const mounts = parseMounts(
      line('/', 'overlay', 'rw,lowerdir+=/l1,lowerdir+=/l2,datadir+=/d,upperdir=/u,workdir=/w,userxattr'),
    );
    expect(overlayOf(mounts, '/x')).toMatchObject({ lowerDirs: ['/l1', '/l2', '/d'], xattrPrefix: 'user.overlay.' });
    expect(
      overlayOf(parseMounts(line('/', 'overlay', 'rw,lowerdir=/a::/b,upperdir=/u,workdir=/w')), '/x')?.lowerDirs,
    ).toEqual(['/a', '/b']);
  });

  it('are resolved where an engine mounted with short, relative names', () => {
    const mounts = parseMounts(line('/', 'overlay', 'rw,lowerdir=l/AB:l/CD,upperdir=id/diff,workdir=id/work'));
    expect(overlayOf(mounts, '/store/overlay/id/merged')).toMatchObject({
      upperDir: '/store/overlay/id/diff',
      lowerDirs: ['/store/overlay/l/AB', '/store/overlay/l/CD'],
    });
  });

  it('are none where the root is read-only or no overlay', () => {
    expect(overlayOf(parseMounts(line('/', 'overlay', 'ro,lowerdir=/a:/b')), '/x')).toBeUndefined();
    expect(overlayOf(parseMounts(line('/', 'ext4', 'rw')), '/x')).toBeUndefined();
    expect(overlayOf([], '/x')).toBeUndefined();
  });
});
