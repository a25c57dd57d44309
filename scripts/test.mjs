// Runs vitest on what setup.mjs has built; arguments are handed on (file filters, -t NAME, ...).
// $STILLFRAME_TEST_REPORT names a file for the results as JSON.
import { spawnSync } from 'node:child_process';

const report = process.env.STILLFRAME_TEST_REPORT;
const reporters = report === undefined ? [] : ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
const { status } = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', ...reporters, ...process.argv.slice(2)],
  { stdio: 'inherit' },
);
process.exit(status ?? 1);
