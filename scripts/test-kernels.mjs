// test-kernels.mjs [SUITE...]: what this machine's kernel cannot show, on Debian's kernels under QEMU
// (run-in-kernel.sh): pre-dumps, which need memory tracking, memory served on demand, which needs CAP_SYS_RESOURCE, and
// cgroup v2 alone; with them what each kernel tells of changes, and the suite of CRIU's client. Default: 6.1, 6.12, the
// newest. $STILLFRAME_KERNEL_TESTS names other test files, $STILLFRAME_CRIU another CRIU than this machine's, or sid's
// for sid's kernel. Emulation is slow: 10 to 20 minutes for each kernel. Each test is told as it ends.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const suites = process.argv.length > 2 ? process.argv.slice(2) : ['bookworm', 'trixie', 'sid'];
// Not what the client costs, which an emulated machine does not show, and not the remedies: what CRIU refuses depends
// on the machine's mounts.
const notThere = ['figures.test.ts', 'remedies.test.ts'];
const ofClient = readdirSync(`${root}/test/root/criu`)
  .filter((name) => name.endsWith('.test.ts') && !notThere.includes(name))
  .map((name) => `test/root/criu/${name}`);
const files =
  process.env.STILLFRAME_KERNEL_TESTS ??
  [
    'test/root/checkpoint/pre-dump.test.ts',
    'test/root/container/pre-dump.test.ts',
    'test/root/archive/watch.test.ts',
    ...ofClient,
  ].join(' ');
// The guest's /run is a tmpfs; its root is an overlay, whose files CRIU would have to find again by path. A mount
// namespace that has a bpf file system CRIU cannot dump. What the archive tests is tested on a disk.
// One file at a time: what has failed is seen before the last has run. The modules were transformed on this side, see
// below.
const cached = '--experimental.fsModuleCache';
const test = `NO_COLOR=1 node scripts/test.mjs $file ${cached} --reporter=verbose --testTimeout=600000 --hookTimeout=300000 --no-file-parallelism || failed=1`;
const disk =
  'mkdir -p /run/t /run/d; truncate -s 256M /run/disk; mkfs.ext4 -q /run/disk; mount -o loop /run/disk /run/d';
const place = 'case $file in *archive*) export TMPDIR=/run/d;; *) export TMPDIR=/run/t;; esac';
// Stable's CRIU 4.1.1 refuses trees with a network namespace of their own on Linux 7.2: see install-criu.sh.
const criuOf = (suite) =>
  process.env.STILLFRAME_CRIU ?? (suite === 'sid' ? `${root}/.stillframe/criu/sid/usr/sbin/criu` : '');
const commandOf = (suite) =>
  `umount -q /sys/fs/bpf; export STILLFRAME_CRIU='${criuOf(suite)}'; ${disk}; failed=0; for file in ${files}; do ${place}; ${test}; done; exit $failed`;

// An emulated processor takes minutes for it.
const { status: transformed } = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'list', cached, ...files.split(' ')],
  { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] },
);
if (transformed !== 0) process.exit(1);

if (
  suites.includes('sid') &&
  spawnSync('scripts/install-criu.sh', ['sid'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] }).status !== 0
)
  process.exit(1);

const failed = [];
for (const suite of suites) {
  console.log(`\n== kernel of ${suite}`);
  const { status } = spawnSync('scripts/run-in-kernel.sh', [suite, commandOf(suite)], {
    cwd: root,
    stdio: 'inherit',
    env: { TIMEOUT: '5400', KDIR: '.stillframe/kernels', ...process.env },
  });
  if (status !== 0) failed.push(suite);
}
if (failed.length > 0) {
  console.log(`\nfailed on the kernels of ${failed.join(', ')}`);
  process.exitCode = 1;
}
