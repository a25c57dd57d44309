import { mkdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readDumpStats } from '../../src/index.js';
import type { ProcessHome } from '../homes/process-home.js';
import { run } from '../run.js';
import type { Contender, Outcome } from './contender.js';

// One shell, so that no step waits for a program to start that is not CRIU or tar.
const FREEZE_DUMP_ARCHIVE_THAW = `
set -eu
criu=$1 pid=$2 cgroup=$3 images=$4 archive=$5 files=$6
if [ -e "$cgroup/cgroup.freeze" ]; then
  wish() { echo "$1" >"$cgroup/cgroup.freeze"; while :; do while read -r key value; do case "$key $value" in "frozen $1") return;; esac; done <"$cgroup/cgroup.events"; done; }
  freeze() { wish 1; }; thaw() { wish 0; }
else
  wish() { echo "$1" >"$cgroup/freezer.state"; while read -r state <"$cgroup/freezer.state"; do case "$state" in "$1") return;; esac; done; }
  freeze() { wish FROZEN; }; thaw() { wish THAWED; }
fi
trap thaw EXIT
freeze
"$criu" dump --tree "$pid" --images-dir "$images" --leave-running --freeze-cgroup "$cgroup" --log-file dump.log -v2
tar --create --file "$archive" --directory "$images" . --directory "$files" .
`;

/** The order in which container engines work, without an engine: freeze, start CRIU, dump, archive, thaw. */
export const byHand: Contender<ProcessHome> = {
  name: 'by hand: freeze, criu dump, GNU tar, thaw',
  missing: (scenario) => (scenario.whole ? null : undefined),
  async checkpoint(home, outDir) {
    const images = join(outDir, 'images');
    const archive = join(outDir, 'archive.tar');
    await mkdir(images);
    await run('/bin/sh', [
      '-c',
      FREEZE_DUMP_ARCHIVE_THAW,
      'sh',
      home.setup.criu.path,
      String(home.pid),
      home.cgroup,
      images,
      archive,
      home.filesDir,
    ]);
    return { archiveBytes: (await stat(archive)).size, criuMs: await criuMs(images) };
  },
};

/** GNU tar of the same tree, with nothing frozen. */
export const tarAlone: Contender<ProcessHome> = {
  name: 'GNU tar alone',
  missing: (scenario) => (scenario.whole ? undefined : null),
  checkpoint: (home, outDir) => tar(home, outDir),
};

/** The same, and the archive safe on disk: what Stillframe's whole time ends with too. */
export const tarAndSync: Contender<ProcessHome> = {
  name: 'GNU tar alone, then fsync',
  missing: (scenario) => (scenario.whole ? undefined : null),
  async checkpoint(home, outDir) {
    const outcome = await tar(home, outDir);
    await run('sync', [join(outDir, 'archive.tar')]);
    return outcome;
  },
};

export const criuAlone: Contender<ProcessHome> = {
  name: 'criu dump alone',
  missing: (scenario) => (scenario.whole ? undefined : null),
  async checkpoint(home, outDir) {
    await run(home.setup.criu.path, [
      'dump',
      '--tree',
      String(home.pid),
      '--images-dir',
      outDir,
      '--leave-running',
      '--freeze-cgroup',
      home.cgroup,
      '--log-file',
      'dump.log',
      '-v2',
    ]);
    return { criuMs: await criuMs(outDir) };
  },
};

async function tar(home: ProcessHome, outDir: string): Promise<Outcome> {
  const archive = join(outDir, 'archive.tar');
  await run('tar', ['--create', '--file', archive, '--directory', home.filesDir, '.']);
  return { archiveBytes: (await stat(archive)).size };
}

export async function criuMs(workDir: string): Promise<number> {
  const { freezingTimeUs, frozenTimeUs } = await readDumpStats(workDir);
  return (freezingTimeUs + frozenTimeUs) / 1000;
}
