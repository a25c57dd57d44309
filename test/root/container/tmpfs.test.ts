import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statfsSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { ownTmpfsBytes } from '../../../src/checkpoint/dump/tmpfs.js';
import { checkpointContainer } from '../../../src/container/index.js';
import { findCriu } from '../../../src/criu/index.js';
import { applyByHand, Bundle, launch, makeImage, newId, RuncContainer } from '../../fixtures/container.js';
import { fillTmpfs } from '../../fixtures/tmpfs.js';
import { fingerprint } from '../archive/fingerprint.js';

let scratch: string;
let image: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  image = makeImage(join(scratch, 'image'));
});
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

interface Entry {
  type: number;
  mtime: string;
}

const ATTRIBUTED = 'text512';
const S_IFSOCK = 0o140000;

/** @param time What is kept of the times, in nanoseconds. */
function sharedMemory(pid: number, time = (ns: bigint) => ns): unknown {
  const tree = fingerprint(`/proc/${pid}/root/dev/shm`) as Record<string, Entry>;
  const kept = Object.entries(tree).filter(([, { type }]) => type !== S_IFSOCK);
  return Object.fromEntries(kept.map(([path, facts]) => [path, { ...facts, mtime: time(BigInt(facts.mtime)) }]));
}

/** To one of the files that are there; what it has then. */
function giveAttributes(pid: number): string[] {
  const script = [
    'import json, os, struct, sys',
    'path = sys.argv[1]',
    "os.setxattr(path, 'trusted.attribute', b'value')",
    'mode = os.stat(path).st_mode',
    'none = 0xffffffff',
    '# user::, user:65534:r--, group::, mask::, other:: - the mode stays as it is.',
    'entries = (1, mode >> 6 & 7, none), (2, 4, 65534), (4, 0, none), (16, mode >> 3 & 7, none), (32, mode & 7, none)',
    "acl = struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *entry) for entry in entries)",
    "os.setxattr(path, 'system.posix_acl_access', acl)",
    'os.utime(path, ns=(int(sys.argv[2]), int(sys.argv[2])))',
    'print(json.dumps(sorted(os.listxattr(path))))',
  ];
  const path = `/proc/${pid}/root/dev/shm/${ATTRIBUTED}`;
  const { mtimeNs } = statSync(path, { bigint: true });
  const args = ['-IS', '-c', script.join('\n'), path, String(mtimeNs)];
  return JSON.parse(execFileSync('/usr/bin/python3', args, { encoding: 'utf8' })) as string[];
}

const SECOND = 1_000_000_000n;
const roundedDown = (ns: bigint): bigint => ns - (((ns % SECOND) + SECOND) % SECOND);

it.each([
  ["by Stillframe's tar, where PATH has none", { PATH: '/no-such-directory', criuHelpers: true }, (ns: bigint) => ns],
  ["by the system's", { PATH: process.env['PATH'] ?? '', criuHelpers: false }, roundedDown],
])(
  'what is in /dev/shm is dumped %s, and comes back with `runc restore`',
  { timeout: 120_000 },
  async (_, { PATH, criuHelpers }, time) => {
    const archive = join(scratch, `shm-${String(criuHelpers)}.tar`);
    await using bundle = new Bundle(image);
    await using container = await RuncContainer.run(bundle);
    const { pid } = await container.state();
    fillTmpfs(`/proc/${pid}/root/dev/shm`, 1);
    const before = sharedMemory(pid, time);
    // As docs/what-comes-back.md has it: all of the file comes back but these.
    expect(giveAttributes(pid)).toEqual(['system.posix_acl_access', 'trusted.attribute']);
    const { blocks, bfree, bsize } = statfsSync(`/proc/${pid}/root/dev/shm`);
    expect(ownTmpfsBytes([pid])).toBeGreaterThanOrEqual((blocks - bfree) * bsize);
    const { path: criuPath } = await findCriu();
    vi.stubEnv('PATH', PATH);
    try {
      await checkpointContainer({
        runc: container.id,
        stateRoot: container.stateRoot,
        output: archive,
        criuPath,
        criuHelpers,
      });
    } finally {
      vi.unstubAllEnvs();
    }
    await container.end();

    await using second = new Bundle(image);
    const unpacked = await applyByHand(archive, second);
    const stateRoot = join(second.dir, 'runc-state');
    await using restored = RuncContainer.adopt(second, newId(), stateRoot);
    const places = ['--bundle', second.dir, '--image-path', join(unpacked, 'checkpoint'), '--work-path', unpacked];
    await launch('--root', stateRoot, 'restore', '--detach', ...places, restored.id);
    expect(sharedMemory((await restored.state()).pid, time)).toEqual(before);
  },
);
