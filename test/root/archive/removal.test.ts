import { execFileSync, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { removeAt, removeBelow, removeEmptied } from '../../../src/removal.js';

let dir: string;
let fd: number;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  fd = openSync(dir, 'r');
});
afterEach(async () => {
  closeSync(fd);
  await rm(dir, { recursive: true, force: true });
});

const sh = (script: string, ...args: string[]): string => execFileSync('sh', ['-ec', script, 'sh', ...args]).toString();
const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

/** A chain of directories too deep for any path, by a program that walks down. */
function makeDeep(root: string, levels: number): void {
  execFileSync('python3', [
    '-c',
    'import os,sys\nos.chdir(sys.argv[1])\nfor i in range(int(sys.argv[2])):\n os.mkdir("d"); open("f","w").close(); os.chdir("d")',
    root,
    String(levels),
  ]);
}

describe('removing a directory by descriptors', () => {
  it('removes files, links, FIFOs, sockets and directories without permissions, and leaves the directory itself', async () => {
    sh(
      'cd "$1"; mkdir -p a/b/c locked; echo x > a/b/c/f; ln -s /etc a/link; mkfifo a/fifo; echo y > locked/f; chmod 0 locked a/b; printf x > "$(printf "a/\\377")"',
      dir,
    );
    await removeBelow(fd);
    expect(readdirSync(dir)).toEqual([]);
  });

  it('does not follow a link, given as the entry or met below it', async () => {
    sh(
      'mkdir "$1/victim" "$1/tree"; echo precious > "$1/victim/f"; ln -s ../victim "$1/tree/l"; ln -s victim "$1/m"',
      dir,
    );
    await removeAt(fd, Buffer.from('tree'));
    await removeAt(fd, Buffer.from('m'));
    expect(readdirSync(dir)).toEqual(['victim']);
    expect(readFileSync(join(dir, 'victim/f'), 'utf8')).toBe('precious\n');
  });

  it('is content when there is nothing of that name, and refuses a name that is a path', async () => {
    await removeAt(fd, Buffer.from('missing'));
    mkdirSync(join(dir, 'a/b'), { recursive: true });
    await expect(removeAt(fd, Buffer.from('a/b'))).rejects.toMatchObject({ code: 'EINVAL' });
    expect(existsSync(join(dir, 'a/b'))).toBe(true);
  });

  it('removes 25,000 levels in seconds, with a handful of descriptors', async () => {
    makeDeep(dir, 25_000);
    const before = openDescriptors();
    let most = 0;
    const watch = setInterval(() => (most = Math.max(most, openDescriptors())), 5);
    onTestFinished(() => clearInterval(watch));
    // Of the processor's time: what the machine does for others meanwhile does not count.
    const begun = process.cpuUsage();
    await removeBelow(fd);
    const { user, system } = process.cpuUsage(begun);
    expect((user + system) / 1000).toBeLessThan(20_000);
    expect(most - before).toBeLessThan(12);
    expect(readdirSync(dir)).toEqual([]);
  }, 180_000);

  it('ends within a second of being cancelled, and can be called again', async () => {
    makeDeep(dir, 25_000);
    const cancel = new AbortController();
    const removal = removeBelow(fd, cancel.signal);
    setTimeout(() => cancel.abort(new Error('enough')), 20);
    const begun = performance.now();
    await expect(removal).rejects.toThrow('enough');
    expect(performance.now() - begun).toBeLessThan(1000);
    await removeBelow(fd);
    expect(readdirSync(dir)).toEqual([]);
  }, 180_000);

  it('leaves the event loop to others meanwhile', async () => {
    sh('cd "$1"; for i in $(seq 40); do mkdir $i; (cd $i; seq 500 | xargs touch); done', dir);
    let longest = 0;
    let last = performance.now();
    const watch = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 1);
    onTestFinished(() => clearInterval(watch));
    await removeBelow(fd);
    expect(longest).toBeLessThan(500); // the machine may be busy; on the loop it would be all of it
    expect(readdirSync(dir)).toEqual([]);
  });

  it.each(['a tmpfs', 'a bind mount of the same file system'])(
    'stops at %s, and removes nothing of it',
    async (kind) => {
      mkdirSync(join(dir, 'tree/deep/mounted'), { recursive: true });
      mkdirSync(join(dir, 'source'));
      writeFileSync(join(dir, 'source/f'), 'precious');
      const target = join(dir, 'tree/deep/mounted');
      if (kind === 'a tmpfs') sh('mount -t tmpfs none "$1"; echo precious > "$1/f"', target);
      else sh('mount --bind "$1" "$2"', join(dir, 'source'), target);
      try {
        await expect(removeAt(fd, Buffer.from('tree'))).rejects.toMatchObject({
          code: expect.stringMatching(/EBUSY|EXDEV/),
        });
        expect(readFileSync(join(target, 'f'), 'utf8').trim()).toBe('precious');
      } finally {
        sh('umount "$1"', target);
      }
    },
  );

  it('removes directories of an overlay that its lower layers hold', async () => {
    sh(
      'cd "$1"; mkdir -p base; mount -t tmpfs none base; cd base; mkdir -p lower/a/b/c/d upper work merged; touch lower/a/b/c/d/f lower/a/g; mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none merged; mkdir -p merged/a/b/new/deep',
      dir,
    );
    const merged = openSync(join(dir, 'base/merged'), 'r');
    try {
      await removeAt(merged, Buffer.from('a'));
      expect(readdirSync(join(dir, 'base/merged'))).toEqual([]);
    } finally {
      closeSync(merged);
      sh('umount "$1/base/merged"; umount "$1/base"', dir);
    }
  });

  it('names what must not be removed', async () => {
    sh('mkdir -p "$1/t/u"; touch "$1/t/u/f"; chattr +i "$1/t/u/f"', dir);
    try {
      await expect(removeAt(fd, Buffer.from('t'))).rejects.toMatchObject({ code: 'EPERM' });
    } finally {
      sh('find "$1" -name "f" -o -name "[0-9a-f]*" -type f | xargs chattr -i', dir);
    }
  });

  it("removes nothing of root's while another user exchanges its directories for links all the time", async () => {
    mkdirSync(join(dir, 'victim'));
    for (let i = 0; i < 200; i++) writeFileSync(join(dir, 'victim', `f${i}`), 'precious');
    const racer = join(dir, 'racer');
    writeFileSync(`${racer}.c`, RACER);
    sh('gcc -O2 -w -o "$1" "$1.c"; chmod 755 "$2"; mkdir "$2/home"; chown 65534:65534 "$2/home"', racer, dir);
    const home = openSync(join(dir, 'home'), 'r');
    const racing = spawn(racer, [join(dir, 'home'), join(dir, 'victim')], {
      uid: 65534,
      gid: 65534,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    onTestFinished(() => {
      racing.kill('SIGKILL');
      closeSync(home);
    });
    await new Promise((resolve) => racing.stdout.once('data', resolve));
    for (let round = 0; round < 5; round++) {
      // He may keep it from becoming empty; he must not lead it elsewhere.
      await removeAt(home, Buffer.from('tree')).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    racing.kill('SIGKILL');
    await new Promise((resolve) => racing.once('exit', resolve));
    expect(readdirSync(join(dir, 'victim'))).toHaveLength(200);
  }, 60_000);

  it('takes the emptied directory away only where it still has its name', () => {
    mkdirSync(join(dir, 'ours'));
    const ours = openSync(join(dir, 'ours'), 'r');
    onTestFinished(() => closeSync(ours));
    sh('cd "$1"; mv ours moved; mkdir ours', dir);
    removeEmptied(fd, Buffer.from('ours'), ours);
    expect(statSync(join(dir, 'ours')).isDirectory()).toBe(true);
    removeEmptied(fd, Buffer.from('moved'), ours);
    expect(existsSync(join(dir, 'moved'))).toBe(false);
  });
});

/**
 * Makes `tree` with 100 directories, and exchanges each with a link to the victim, for ever; makes it anew when it is
 * gone.
 */
const RACER = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv) {
  char name[64];
  if (chdir(argv[1])) return 1;
  mkdir("links", 0777);
  int links = open("links", O_RDONLY);
  for (int round = 0;; round++) {
    mkdir("tree", 0777);
    int tree = open("tree", O_RDONLY);
    for (int i = 0; i < 100; i++) {
      snprintf(name, sizeof name, "d%d", i);
      mkdirat(tree, name, 0777);
      symlinkat(argv[2], links, name);
    }
    if (round == 0) { puts("racing"); fflush(stdout); }
    for (int turn = 0; turn < 200; turn++)
      for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "d%d", i);
        syscall(SYS_renameat2, tree, name, links, name, 2);
      }
    close(tree);
  }
}
`;
