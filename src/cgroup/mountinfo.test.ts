import { describe, expect, test } from 'vitest';
import { parseMountinfo, parseProcCgroup, pathBelowMount } from './mountinfo.js';

describe('parseMountinfo', () => {
  test('finds both versions, and skips what is no cgroup mount', () => {
    const text = [
      '31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755',
      '37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime shared:9 master:3 - cgroup cgroup rw,freezer',
      '38 31 0:39 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup ro,cpu,cpuacct',
      '40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd',
      '41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate',
      '',
    ].join('\n');
    expect(parseMountinfo(text)).toEqual([
      { version: 2, root: '/', mountPoint: '/sys/fs/cgroup/unified', controllers: [] },
      { version: 1, root: '/', mountPoint: '/sys/fs/cgroup/systemd', controllers: ['xattr', 'name=systemd'] },
      { version: 1, root: '/', mountPoint: '/sys/fs/cgroup/cpu,cpuacct', controllers: ['cpu', 'cpuacct'] },
      { version: 1, root: '/', mountPoint: '/sys/fs/cgroup/freezer', controllers: ['freezer'] },
    ]);
  });

  test('takes octal escapes back, in the root and the mount point', () => {
    const [mount] = parseMountinfo('50 1 0:38 /a\\040job\\134x /mnt/caf\\303\\251\\011\\012 rw - cgroup2 none rw\n');
    expect(mount).toEqual({ version: 2, root: '/a job\\x', mountPoint: '/mnt/café\t\n', controllers: [] });
  });

  test('puts a later mount first, since it hides an earlier one', () => {
    const text = '1 0 0:1 / /cg rw - cgroup2 a rw\n2 0 0:1 /job /cg rw - cgroup2 b rw\n';
    expect(parseMountinfo(text).map((mount) => mount.root)).toEqual(['/job', '/']);
  });

  test('reads a mount whose source is empty', () => {
    expect(parseMountinfo('1 0 0:1 / /cg rw - cgroup2  rw')).toMatchObject([{ version: 2, mountPoint: '/cg' }]);
  });
});

describe('parseProcCgroup', () => {
  test('reads hybrid, named and v2 lines; a path may hold colons', () => {
    expect(parseProcCgroup('9:name=systemd:/x\n6:freezer:/a:b\n4:cpu,cpuacct:/\n0::/user.slice/a b\n')).toEqual([
      { version: 1, controllers: ['name=systemd'], name: '/x' },
      { version: 1, controllers: ['freezer'], name: '/a:b' },
      { version: 1, controllers: ['cpu', 'cpuacct'], name: '/' },
      { version: 2, controllers: [], name: '/user.slice/a b' },
    ]);
  });
});

describe('pathBelowMount', () => {
  test.each([
    ['/', '/', { unknown: 0, segments: [] }],
    ['/', '/a/b', { unknown: 0, segments: ['a', 'b'] }],
    ['/a', '/a/b', { unknown: 0, segments: ['b'] }],
    ['/a', '/a', { unknown: 0, segments: [] }],
    ['/a', '/ab', undefined],
    ['/a/b', '/a', undefined],
    ['/..', '/../x/y', { unknown: 0, segments: ['x', 'y'] }],
    ['/../x', '/../x/y', { unknown: 0, segments: ['y'] }],
    ['/../x', '/../z', undefined],
    ['/', '/../x', undefined],
    // Our own namespace's root, below a mount of its parent: its name cannot be read from any text.
    ['/..', '/job', { unknown: 1, segments: ['job'] }],
    ['/../..', '/', { unknown: 2, segments: [] }],
    ['/../..', '/../job', { unknown: 1, segments: ['job'] }],
    ['/../x', '/job', undefined],
  ])('mount of %s, cgroup %s', (root, name, expected) => {
    expect(pathBelowMount(root, name)).toEqual(expected);
  });
});
