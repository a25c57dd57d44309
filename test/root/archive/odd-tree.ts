import type { FixtureMember } from './archive-fixture.js';

const SECOND = 1_000_000_000n;

const deep = `tree/${Array.from({ length: 5 }, (_, i) => `${i}`.repeat(200)).join('/')}`;
const deepDirs = deep
  .split('/')
  .map((_, i, parts) => parts.slice(0, i + 1).join('/'))
  .slice(1);
export const bytesName = Buffer.from('tree/\xff\xfe\n\\\x01 \xe4', 'latin1');

/** Everything a file system can hold that archives get wrong. */
export const odd: FixtureMember[] = [
  { name: 'tree', type: 'directory', mode: 0o1777, uid: 12, gid: 34, mtimeNs: 123n * SECOND + 1n },
  ...deepDirs.map((name): FixtureMember => ({ name, type: 'directory', mode: 0o500 })),
  { name: `${deep}/${'n'.repeat(255)}`, stored: 'deep', mode: 0 },
  { name: bytesName, stored: 'bytes', mode: 0o6755, uid: 1000, gid: 4294967294 },
  { name: 'tree/again', type: 'hardlink', linkname: bytesName },
  {
    name: 'tree/attributes',
    stored: 'a',
    xattrs: [
      {
        name: Buffer.from('security.capability'),
        value: Buffer.from('0100000200040000000000000000000000000000', 'hex'),
      },
      { name: Buffer.from('user.a=b%3D'), value: Buffer.from([0, 10, 61, 255, 0]) },
      { name: Buffer.from('user.\xff', 'latin1'), value: Buffer.alloc(0) },
    ],
  },
  { name: 'tree/block', type: 'block-device', devmajor: 259, devminor: 1048575, mode: 0o660, gid: 6 },
  { name: 'tree/char', type: 'character-device', devmajor: 1, devminor: 3, mode: 0o666 },
  {
    name: 'tree/directory',
    type: 'directory',
    xattrs: [{ name: Buffer.from('trusted.overlay.opaque'), value: Buffer.from('y') }],
  },
  { name: 'tree/empty' },
  { name: 'tree/fifo', type: 'fifo', mode: 0o640 },
  {
    name: 'tree/huge',
    size: 9 * 1024 ** 3 + 5,
    stored: Buffer.alloc(4096 + 5, 9),
    data: [
      { offset: 1 << 20, length: 4096 },
      { offset: 9 * 1024 ** 3, length: 5 },
    ],
  },
  { name: 'tree/hole', size: 1 << 30, data: [] },
  {
    name: 'tree/link',
    type: 'symlink',
    linkname: Buffer.from('/\xff/nowhere', 'latin1'),
    uid: 7,
    mtimeNs: 5n * SECOND + 5n,
    xattrs: [{ name: Buffer.from('trusted.t'), value: Buffer.from('l') }],
  },
  { name: 'tree/long-link', type: 'symlink', linkname: '../'.repeat(60) },
  { name: 'tree/mtime-before-1970', mtimeNs: -1_500_000_001n },
  { name: 'tree/mtime-far', mtimeNs: 10_000_000_000n * SECOND + 7n },
  { name: 'tree/setuid', stored: 'x', mode: 0o4711, uid: 65534, gid: 65534 },
  { name: 'tree/whiteout', type: 'character-device', devmajor: 0, devminor: 0, mode: 0 },
];
