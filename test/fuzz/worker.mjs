/**
 * Does to an archive all that a stranger's archive can make this library do, up to the start of a program that was
 * restored, and tells how each attempt ended. A process of its own: it may crash, hang, or take memory, and its parent
 * sees that.
 *
 * Messages in: { archive, base }. Below `base`: criu, a program that refuses every restore, and bin/runc, one that
 * fails.
 */
import { readFileSync, rmSync } from 'node:fs';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

// Only this process is under the sanitizers: programs that it starts need none.
delete process.env.LD_PRELOAD;
const library = await import(pathToFileURL(join(process.argv[2], 'dist/src/index.js')).href);

const outcome = (error) => {
  if (error instanceof library.StillframeError) return error.code;
  const parts = error instanceof AggregateError ? `: ${error.errors.map((part) => part?.stack).join('; ')}` : '';
  return `untyped: ${error?.stack ?? String(error)}${parts}`;
};

async function attempts({ archive, base }) {
  const work = join(base, 'work');
  const ended = {};
  const attempt = async (name, act) => {
    await mkdir(work, { recursive: true });
    // Processor time of all threads: the clock on the wall says more about the machine's load than about an archive.
    const before = process.cpuUsage();
    ended[name] = await act().then(() => 'done', outcome);
    const { user, system } = process.cpuUsage(before);
    ended[name] += user + system > 5_000_000 ? ' after more than 5 s of processor time' : '';
    rmSync(work, { recursive: true, force: true });
  };
  let trees = [];
  await attempt('inspect', async () => {
    const { manifest } = await library.inspect(archive, { tmpDir: work });
    trees = manifest?.trees ?? [];
  });
  await attempt('verify', () => library.verify(archive, { tmpDir: work }));
  for (const name of ['spec.dump', 'checkpoint/pstree.img'])
    await attempt(`readMember ${name}`, () => library.readMember(archive, name, { tmpDir: work }));
  await attempt('restore', () =>
    library.restore({
      archive,
      // Wherever an archive says that a tree was: the root of this machine's files is no place for it.
      files: Object.fromEntries(
        trees.filter(({ name }) => typeof name === 'string').map(({ name }, at) => [name, join(work, `tree-${at}`)]),
      ),
      cgroup: process.env.FUZZ_CGROUP,
      workDir: work,
      criuPath: join(base, 'criu'),
      pidTimeoutMs: 1,
    }),
  );
  await attempt('restoreContainer', async () => {
    await cp(join(base, 'bundle'), join(work, 'bundle'), { recursive: true, verbatimSymlinks: true });
    return library.restoreContainer({
      archive,
      runc: 'fuzz',
      bundle: join(work, 'bundle'),
      stateRoot: join(work, 'state'),
      workDir: work,
      criuPath: join(base, 'criu'),
    });
  });
  await attempt('writeImage', () => library.writeImage({ archive, directory: join(work, 'image') }));
  return ended;
}

process.on('message', async (message) => {
  const ended = await attempts(message);
  const peakKiB = Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
  process.send({ ended, peakKiB });
});
process.send('ready');
