import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openArchive, verifyArchive } from '../../../src/archive/index.js';
import { applyRootfs } from '../../../src/container/documents/apply-diff.js';
import { restoreContainer } from '../../../src/container/index.js';
import { forgeContainer, type ForgedContainer } from '../../fixtures/forge-archive.js';
import { must } from '../../fixtures/container.js';
import { unmount } from '../../fixtures/unmount.js';

let scratch: string;
let rootfs: string;
/** Plays a directory of the host: nothing in it may ever change. */
let host: string;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  rootfs = join(scratch, 'rootfs');
  host = join(scratch, 'host');
  mkdirSync(join(host, 'important'), { recursive: true });
  writeFileSync(join(host, 'important/file'), 'precious');
  writeFileSync(join(host, 'shadow'), 'root:x', { mode: 0o600 });
  mkdirSync(join(rootfs, 'etc'), { recursive: true });
  mkdirSync(join(rootfs, 'run'));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

const hostAsItWas = {
  '.': ['important', 'shadow'],
  important: ['file'],
  file: 'precious',
  shadow: 'root:x',
  modes: [0o755, 0o600],
};

function hostNow(): typeof hostAsItWas {
  return {
    '.': readdirSync(host).sort(),
    important: readdirSync(join(host, 'important')),
    file: readFileSync(join(host, 'important/file'), 'utf8'),
    shadow: readFileSync(join(host, 'shadow'), 'utf8'),
    modes: [statSync(join(host, 'important')).mode & 0o7777, statSync(join(host, 'shadow')).mode & 0o7777],
  };
}

async function apply(container: ForgedContainer, { whiteouts = false } = {}): Promise<void> {
  const path = join(scratch, 'archive.tar');
  writeFileSync(path, forgeContainer(container));
  await using archive = await openArchive(path);
  await applyRootfs({ verified: await verifyArchive(archive), rootfs, whiteouts });
}

/** Of the root file system, to see that nothing is left of the way there. */
function names(path = ''): string[] {
  return readdirSync(join(rootfs, path)).sort();
}

describe('a link of the image that leads out of it', () => {
  const links: [kind: string, make: () => void, through: string][] = [
    ['an absolute one', () => symlinkSync(host, join(rootfs, 'etc/ssl')), 'etc/ssl'],
    ['a relative one', () => symlinkSync('../../host', join(rootfs, 'etc/ssl')), 'etc/ssl'],
    ['one that climbs far', () => symlinkSync(`${'../'.repeat(30)}${host}`, join(rootfs, 'etc/ssl')), 'etc/ssl'],
    [
      'one behind another',
      () => {
        symlinkSync(host, join(rootfs, 'out'));
        symlinkSync('../out', join(rootfs, 'etc/ssl'));
      },
      'etc/ssl',
    ],
    ['one of /proc', () => symlinkSync(`/proc/self/cwd${host}`, join(rootfs, 'etc/ssl')), 'etc/ssl'],
  ];

  it.each(links)('%s is never written through', async (_, make, through) => {
    make();
    await apply({
      diff: [
        { name: `${through}/PLANTED`, stored: 'evil', mode: 0o4755 },
        { name: `${through}/important/PLANTED`, stored: 'evil' },
        { name: `${through}/made`, type: 'directory' },
        { name: `${through}/pipe`, type: 'fifo' },
      ],
    }).catch((error: unknown) => {
      expect(error).toMatchObject({ name: 'ArchiveError', code: 'EXTRACT_FAILED' });
    });
    expect(hostNow()).toEqual(hostAsItWas);
  });

  it.each(links)('%s is never removed through', async (_, make, through) => {
    make();
    await apply({ documents: { 'deleted.files': [`/${through}/important`, `/${through}/shadow`, `${through}/./.`] } });
    expect(hostNow()).toEqual(hostAsItWas);
  });

  it.each(links)('%s lets no directory of the host be replaced by a file', async (_, make, through) => {
    make();
    await apply({ diff: [{ name: `${through}/important`, stored: 'evil' }] }).catch(() => undefined);
    expect(hostNow()).toEqual(hostAsItWas);
  });

  it.each(links)("%s gives no directory of the host the archive's owner and mode", async (_, make, through) => {
    make();
    await apply({
      diff: [{ name: `${through}/important`, type: 'directory', mode: 0o777, uid: 65534 }],
    }).catch(() => undefined);
    expect(hostNow()).toEqual(hostAsItWas);
    expect(statSync(join(host, 'important')).uid).toBe(0);
  });

  it.each(links)('%s gets no place for a bind mount made', async (_, make, through) => {
    make();
    const bind = { source: '/x', permissions: 0o777 };
    await apply({
      documents: {
        'bind.mounts': [
          { ...bind, destination: `/${through}/bound`, file_type: 'directory' },
          { ...bind, destination: `/${through}/important/deep/er`, file_type: 'file' },
        ],
      },
    }).catch(() => undefined);
    expect(hostNow()).toEqual(hostAsItWas);
  });
});

it('a path of more bytes than the kernel takes is refused as that, and nothing of it is left', async () => {
  await expect(apply({ diff: [{ name: `${'a/'.repeat(3000)}file`, stored: 'deep' }] })).rejects.toMatchObject({
    code: 'EXTRACT_FAILED',
    facts: { what: expect.stringContaining('longer than') as string },
  });
  expect(names()).toEqual(['etc', 'run']);
});

describe('links of the image that are meant', () => {
  it.each(['/run', '../run'])('lead to where they lead in the container: %s', async (target) => {
    mkdirSync(join(rootfs, 'var'));
    symlinkSync(target, join(rootfs, 'var/run'));
    writeFileSync(join(rootfs, 'run/old'), '');
    await apply({
      diff: [{ name: 'var/run/app/pid', stored: '7', mode: 0o640 }],
      documents: {
        'deleted.files': ['/var/run/old'],
        'bind.mounts': [
          { source: '/a', destination: '/var/run/secrets/token', file_type: 'file', permissions: 0o600 },
          { source: '/b', destination: '/var/run/certs', file_type: 'directory', permissions: 0o711 },
        ],
      },
    });
    expect(readlinkSync(join(rootfs, 'var/run'))).toBe(target);
    expect(names('run')).toEqual(['app', 'certs', 'secrets']);
    expect(readFileSync(join(rootfs, 'run/app/pid'), 'utf8')).toBe('7');
    expect(statSync(join(rootfs, 'run/secrets/token')).mode).toBe(0o100600);
    expect(statSync(join(rootfs, 'run/certs')).mode).toBe(0o40711);
    expect(names()).toEqual(['etc', 'run', 'var']);
  });

  it('are replaced themselves, not what they lead to, when the container replaced or removed them', async () => {
    symlinkSync('/run', join(rootfs, 'replaced-by-file'));
    symlinkSync('/run', join(rootfs, 'replaced-by-directory'));
    symlinkSync('/run', join(rootfs, 'removed'));
    writeFileSync(join(rootfs, 'run/kept'), '');
    await apply({
      diff: [
        { name: 'replaced-by-file', stored: 'text' },
        { name: 'replaced-by-directory', type: 'directory', mode: 0o700 },
        { name: 'replaced-by-directory/in-it', stored: '' },
      ],
      documents: { 'deleted.files': ['/removed'] },
    });
    expect(lstatSync(join(rootfs, 'replaced-by-file')).isFile()).toBe(true);
    expect(lstatSync(join(rootfs, 'replaced-by-directory')).isDirectory()).toBe(true);
    expect(existsSync(join(rootfs, 'removed'))).toBe(false);
    expect(names('run')).toEqual(['kept']);
  });

  it('lead to a name of the place for a bind mount that does not exist: it is left to the runtime', async () => {
    symlinkSync('/run/nowhere/resolv.conf', join(rootfs, 'etc/resolv.conf'));
    const mount = { source: '/x', destination: '/etc/resolv.conf', file_type: 'file', permissions: 0o644 };
    await apply({ documents: { 'bind.mounts': [mount] } });
    expect(readlinkSync(join(rootfs, 'etc/resolv.conf'))).toBe('/run/nowhere/resolv.conf');
    expect(names('run')).toEqual([]);
  });
});

describe('a difference that is put on an image', () => {
  it('replaces files and directories, keeps what it does not name, and gives merged directories their time last', async () => {
    mkdirSync(join(rootfs, 'etc/was-directory/deep'), { recursive: true });
    writeFileSync(join(rootfs, 'etc/was-file'), '');
    writeFileSync(join(rootfs, 'etc/kept'), '');
    await apply({
      diff: [
        { name: 'etc', type: 'directory', mode: 0o750, uid: 3, mtimeNs: -1n },
        { name: 'etc/was-directory', stored: 'file' },
        { name: 'etc/was-file', type: 'directory' },
        { name: 'etc/was-file/new', stored: '' },
      ],
    });
    expect(names('etc')).toEqual(['kept', 'was-directory', 'was-file']);
    expect(statSync(join(rootfs, 'etc'), { bigint: true })).toMatchObject({ mode: 0o40750n, uid: 3n, mtimeNs: -1n });
    expect(names()).toEqual(['etc', 'run']);
  });

  it.each([
    [true, ['kept']],
    [false, ['.wh.kept', 'kept']],
  ])('holds marks of deletions only where it says so (%s): else they are files', async (whiteouts, expected) => {
    writeFileSync(join(rootfs, 'etc/kept'), '');
    await apply({ diff: [{ name: 'etc/.wh.kept', stored: '' }] }, { whiteouts });
    expect(names('etc')).toEqual(expected);
  });

  it.each([['deleted.files', ['../host/shadow']] as const, ['bind.mounts', [{ file_type: 'link' }]] as const])(
    'is not begun when %s is not what it should be',
    async (name, list) => {
      await expect(
        apply({ diff: [{ name: 'etc/new', stored: '' }], documents: { [name]: list } }),
      ).rejects.toMatchObject({ code: expect.stringMatching(/^(UNSAFE_PATH|NOT_A_CONTAINER_CHECKPOINT)$/) as string });
      expect(names('etc')).toEqual([]);
    },
  );

  it('touches no file system that is mounted in it, and says so', async () => {
    mkdirSync(join(rootfs, 'mnt'));
    await must('mount', '--bind', host, join(rootfs, 'mnt'));
    try {
      for (const container of [
        { diff: [{ name: 'mnt/PLANTED', stored: 'evil' }] },
        { diff: [{ name: 'mnt', type: 'directory' as const, mode: 0o777 }] },
        { diff: [{ name: 'mnt', stored: 'file' }] },
        { documents: { 'deleted.files': ['/mnt/important'] } },
        { documents: { 'deleted.files': ['/mnt'] } },
      ])
        await expect(apply(container)).rejects.toMatchObject({
          code: 'EXTRACT_FAILED',
          message: expect.stringContaining('a file system is mounted there') as string,
        });
      expect(hostNow()).toEqual(hostAsItWas);
    } finally {
      unmount(join(rootfs, 'mnt'));
    }
  });
});

describe('an archive that brings its own configuration', () => {
  it.each([
    ['a relative root', (path: string) => ({ root: { path: `${'../'.repeat(30)}${path}` } })],
    ['an absolute root behind an object', (path: string) => `{"root":{"x":{},"path":${JSON.stringify(path)}}}`],
    ['an escaped root', (path: string) => `{"r\\u006fot":{"path":${JSON.stringify(path)}}}`],
  ])('chooses neither the root nor the hooks: %s', async (_, specOf) => {
    const hooked = join(scratch, 'hooked');
    const given = specOf(host);
    const hooks = { prestart: [{ path: '/bin/touch', args: ['touch', hooked] }] };
    const begin = (typeof given === 'string' ? given : JSON.stringify(given)).slice(0, -1);
    const path = join(scratch, 'archive.tar');
    writeFileSync(
      path,
      forgeContainer({
        spec: `${begin},"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"mount"}]},"hooks":${JSON.stringify(hooks)}}`,
        diff: [{ name: 'PLANTED', stored: 'evil' }],
        documents: { 'deleted.files': ['/important'] },
      }),
    );
    // There are no images that CRIU could restore: the runtime fails, after all else has been done.
    await expect(
      restoreContainer({
        archive: path,
        runc: `forged-${process.pid}`,
        bundle: scratch,
        stateRoot: join(scratch, 'state'),
      }),
    ).rejects.toMatchObject({
      code: 'RUNTIME_FAILED',
      facts: { dropped: [{ setting: 'hooks', what: 'prestart /bin/touch' }] },
    });
    expect(hostNow()).toEqual(hostAsItWas);
    expect(existsSync(hooked)).toBe(false);
    expect(names()).toContain('PLANTED');
    expect(existsSync(join(scratch, 'config.json'))).toBe(false);
  });
});
