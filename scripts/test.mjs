// Runs vitest on what setup.mjs has built; arguments are handed on (file filters, -t NAME, ...).
// $STILLFRAME_TEST_REPORT names a file for the results as JSON.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';

const reaper = 'build/test/reaper';
mkdirSync('build/test', { recursive: true });
const cc = spawnSync('cc', ['-O2', '-Wall', '-Wextra', '-o', reaper, 'test/fixtures/reaper.c'], { stdio: 'inherit' });
if (cc.status !== 0) process.exit(cc.status ?? 1);

const report = process.env.STILLFRAME_TEST_REPORT;
const reporters = report === undefined ? [] : ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
const { status } = spawnSync(
  reaper,
  [process.execPath, 'node_modules/vitest/vitest.mjs', 'run', ...reporters, ...process.argv.slice(2)],
  { stdio: 'inherit' },
);
process.exit(status ?? 1);
