// Makes static protobuf code (ESM and its types) from proto/criu/*.proto: src/criu/generated/criu.js and criu.d.ts.
// The compiler does not copy JavaScript, so the same files also go to dist/src/criu/generated/. Does nothing when
// everything is newer than its sources.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const self = fileURLToPath(import.meta.url);
const root = dirname(dirname(self));
const protoDir = join(root, 'proto/criu');
const outDir = join(root, 'src/criu/generated');
const distDir = join(root, 'dist/src/criu/generated');
const outputs = ['criu.js', 'criu.d.ts'];
const protos = readdirSync(protoDir)
  .filter((name) => name.endsWith('.proto'))
  .map((name) => join(protoDir, name));

function mtimeMs(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function generate() {
  const pbjs = createRequire(import.meta.url).resolve('protobufjs-cli/bin/pbjs');
  const fresh = join(outDir, 'criu.new.js');
  mkdirSync(outDir, { recursive: true });
  const { status } = spawnSync(
    process.execPath,
    [
      pbjs,
      '-t',
      'static-module',
      '-w',
      'esm',
      '--dependency',
      'protobufjs/minimal.js',
      '--no-service',
      '--no-delimited',
      '--no-typeurl',
      '--no-verify',
      '--no-convert',
      '--null-semantics',
      '--dts',
      '-o',
      fresh,
      ...protos,
    ],
    { stdio: 'inherit' },
  );
  if (status !== 0) process.exit(status ?? 1);
  // Renamed when whole: a build that is cut short leaves the old pair or none.
  renameSync(fresh.replace(/js$/, 'd.ts'), join(outDir, 'criu.d.ts'));
  renameSync(fresh, join(outDir, 'criu.js'));
}

const newestSource = Math.max(...[self, ...protos].map(mtimeMs));
if (outputs.some((name) => mtimeMs(join(outDir, name)) <= newestSource)) generate();

mkdirSync(distDir, { recursive: true });
for (const name of outputs) {
  if (mtimeMs(join(distDir, name)) <= mtimeMs(join(outDir, name)))
    copyFileSync(join(outDir, name), join(distDir, name));
}
