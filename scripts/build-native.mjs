// Builds the addon with node-gyp, against the headers that came with this Node.js when they are there:
// then nothing has to be downloaded.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const nodeGyp = ownNodeGyp() ?? process.env.npm_config_node_gyp;
if (nodeGyp === undefined) {
  console.error('build-native: no node-gyp; run it through npm, which has one: npm run build:native');
  process.exit(1);
}
const prefix = process.env.npm_config_nodedir ?? dirname(dirname(process.execPath));
const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : [];
const built = existsSync(join(root, 'build/Makefile'));
const { status } = spawnSync(
  process.execPath,
  [nodeGyp, ...(built ? ['build'] : ['configure', 'build']), '--silent', ...headers],
  { cwd: root, stdio: 'inherit' },
);
process.exit(status ?? 1);

/** In a checkout; where Stillframe is a dependency, npm has one of its own. */
function ownNodeGyp() {
  try {
    return createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
  } catch {
    return undefined;
  }
}
