/**
 * Where memory images lie while they are made and used: nobody but root reads them, renames them, or gets root to
 * remove something else.
 */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, symlinkSync, watch, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { checkpoint, restore, verify } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';
import { run } from '../../fixtures/program.js';

const NOBODY = 65534;
const version = freezerVersions()[0]!;

let writer: BusyWriter;
let home: string;
beforeEach(async () => {
  writer = await BusyWriter.start(version, { memoryMiB: 4 });
  chmodSync(writer.scratch, 0o755);
  home = writer.path('home');
  mkdirSync(home);
  chownSync(home, NOBODY, NOBODY);
});
afterEach(() => writer[Symbol.asyncDispose]());

const options = (output: string): { pid: number; files: { path: string; name: string }[]; output: string } => ({
  pid: writer.pid,
  files: [{ path: writer.data, name: 'data' }],
  output,
});

/** Every name that appears in a directory, ever. */
function namesSeenIn(directory: string): string[] {
  const names: string[] = [];
  const watcher = watch(directory, (_, name) => void names.push(name ?? ''));
  onTestFinished(() => watcher.close());
  return names;
}

describe('a work directory', () => {
  const kinds: Record<string, (dir: string) => string> = {
    'of another user': (dir) => {
      chownSync(dir, NOBODY, NOBODY);
      return dir;
    },
    'that a group can write to': (dir) => {
      chmodSync(dir, 0o775);
      return dir;
    },
    'that all can write to, without the sticky bit': (dir) => {
      chmodSync(dir, 0o777);
      return dir;
    },
    'of another user, although sticky': (dir) => {
      chmodSync(dir, 0o1777);
      chownSync(dir, NOBODY, NOBODY);
      return dir;
    },
    "of root's below one of another user": (dir) => {
      mkdirSync(join(dir, 'below'));
      chownSync(dir, NOBODY, NOBODY);
      return join(dir, 'below');
    },
    'behind a link to one of another user': (dir) => {
      chownSync(dir, NOBODY, NOBODY);
      symlinkSync(dir, writer.path('link'));
      return writer.path('link');
    },
  };
  it.each(Object.keys(kinds))('%s is refused by name, before anything is made there', async (kind) => {
    mkdirSync(writer.path('work'));
    const workDir = kinds[kind]!(writer.path('work'));
    const seen = namesSeenIn(workDir);
    await expect(checkpoint({ ...options(writer.path('a.tar')), workDir })).rejects.toMatchObject({
      code: 'WORK_DIR_UNSAFE',
      facts: { path: workDir, directory: writer.path('work') },
    });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    expect(existsSync(writer.path('a.tar'))).toBe(false);
    expect(seen).toEqual([]);
  });

  it('is refused at the restore, too', async () => {
    const output = writer.path('a.tar');
    await checkpoint(options(output));
    await expect(restore({ archive: output, workDir: home })).rejects.toMatchObject({ code: 'WORK_DIR_UNSAFE' });
  });

  it("that is sticky and root's, as /tmp is, serves", async () => {
    mkdirSync(writer.path('work'));
    chmodSync(writer.path('work'), 0o1777);
    await checkpoint({ ...options(writer.path('a.tar')), workDir: writer.path('work') });
    expect(readdirSync(writer.path('work'))).toEqual([]);
  });
});

describe("an archive in another user's home", () => {
  it('is written and restored without a private directory there', async () => {
    const seen = namesSeenIn(home);
    const output = join(home, 'app.tar');
    await checkpoint(options(output));
    await writer.destroy();
    await restore({ archive: output });
    expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    // The kernel gives a file without a name one that begins with #.
    expect([...new Set(seen)].filter((name) => name !== 'app.tar' && !name.startsWith('#'))).toEqual([]);
  });

  it('can be replaced while its owner exchanges all that appears there', async () => {
    const output = join(home, 'app.tar');
    const victim = writer.path('victim');
    mkdirSync(victim);
    for (let i = 0; i < 20; i++) writeFileSync(join(victim, `f${i}`), 'precious');
    const loot = await startThief(home, victim);
    for (let round = 0; round < 3; round++) {
      await checkpoint({ ...options(output), overwrite: true }).catch(() => undefined);
      expect(await writer.isWell()).toEqual({ goesOn: true, mismatches: 0, lost: '' });
    }
    loot.kill('SIGKILL');
    await once(loot, 'exit');
    expect(readdirSync(victim)).toHaveLength(20);
    expect(readdirSync(home).filter((name) => name.startsWith('copied-'))).toEqual([]);
  });
});

/**
 * Renames each directory that appears in `home`, puts a link to `victim` in its place, and copies each file that can be
 * read.
 */
async function startThief(home: string, victim: string): Promise<ChildProcess> {
  const script = `
import os, sys, stat
home, victim = sys.argv[1:]
os.chdir(home)
print("ready", flush=True)
known, n = set(), 0
while True:
  for name in os.listdir("."):
    if name in known or not name.startswith(".stillframe-"): continue
    try:
      if stat.S_ISDIR(os.lstat(name).st_mode):
        known.add(name); os.rename(name, "moved-%d" % n); os.symlink(victim, name); n += 1
      else:
        data = open(name, "rb").read(); open("copied-%d" % n, "wb").write(data); n += 1
    except OSError: pass
`;
  const thief = spawn('python3', ['-c', script, home, victim], {
    uid: NOBODY,
    gid: NOBODY,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void thief.kill('SIGKILL'));
  await once(thief.stdout, 'data');
  return thief;
}

describe('the images', () => {
  it('are made for root alone, whatever umask the caller has, and the caller keeps his', async () => {
    const before = process.umask(0);
    try {
      await checkpoint(options(writer.path('a.tar')));
      expect(process.umask()).toBe(0);
    } finally {
      process.umask(before);
    }
    const { stdout } = await run('tar', ['-tvf', writer.path('a.tar')]);
    const images = stdout
      .toString()
      .split('\n')
      .filter((line) => /checkpoint\/.*\.img$|dump\.log$|stats-dump$/.test(line));
    expect(images.length).toBeGreaterThan(5);
    for (const line of images) expect(line).toMatch(/^-rw------- /);
    await verify(writer.path('a.tar'));
  });

  it('are seen by nobody else while they are written', async () => {
    mkdirSync(writer.path('work'));
    const looks: string[] = [];
    await checkpoint({
      ...options(writer.path('a.tar')),
      workDir: writer.path('work'),
      onProgress: ({ phase, at }) => {
        if (phase !== 'seal' || at !== 'start') return;
        const [own] = readdirSync(writer.path('work'));
        looks.push(spawnAsNobody(join(writer.path('work'), own!, 'images')));
      },
    });
    expect(looks.length).toBe(1);
    expect(looks[0]).toContain('Permission denied');
  });
});

function spawnAsNobody(path: string): string {
  try {
    return execFileSync('ls', [path], { uid: NOBODY, gid: NOBODY, stdio: 'pipe' }).toString();
  } catch (error) {
    return String((error as { stderr: Buffer }).stderr);
  }
}
