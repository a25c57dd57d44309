// test-matrix.mjs [FILTER...]: CRIU's suite (or what the filters name) with the CRIU of three Debian suites, and the
// proto against what each of them carries. Versions are fetched into .stillframe/criu/, once.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const suites = ['trixie', 'sid', 'experimental'];
const filters = process.argv.length > 2 ? process.argv.slice(2) : ['src/criu', 'test/root/criu'];

function run(command, args, env = {}) {
  return spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } }).status === 0;
}

if (!run('scripts/install-criu.sh', suites)) process.exit(1);
const failed = run(process.execPath, ['scripts/check-proto.mjs', ...suites]) ? [] : ['the proto'];
for (const suite of suites) {
  const criu = join(root, '.stillframe/criu', suite, 'usr/sbin/criu');
  console.log(`\n== CRIU of ${suite}: ${criu}`);
  if (!run(process.execPath, ['scripts/test.mjs', ...filters], { STILLFRAME_CRIU: criu }))
    failed.push(`CRIU of ${suite}`);
}
if (failed.length > 0) {
  console.log(`\nfailed: ${failed.join(', ')}`);
  process.exitCode = 1;
}
