// setup.mjs [--tests]: makes a fresh clone ready to run, and does nothing twice.
//
//   1. Debian packages that the build needs (compiler, make, python3, patchelf), by apt, when missing
//   2. npm packages (npm ci)
//   3. the build: CRIU's protobuf messages, the native part, TypeScript, the workloads in C
//   4. a CRIU that works on the running kernel
//
// Only Node's own modules here: this runs before anything is installed.
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const forTests = process.argv.includes('--tests');
const stamps = join(root, '.stillframe', 'stamps');

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

function fail(what, remedy) {
  say(what);
  say(`What to do: ${remedy}`);
  process.exit(1);
}

/** Runs a command, its output shown only when it fails. */
function run(command, args, { remedy, env = {} } = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    maxBuffer: 1 << 26,
  });
  if (status === 0) return stdout;
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
  fail(
    `${command} ${args.join(' ')} failed (${error ? error.message : `exit status ${status}`})`,
    remedy ?? 'see the lines above',
  );
}

function onPath(tool) {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .concat('/usr/sbin', '/sbin')
    .some((dir) => {
      try {
        accessSync(join(dir, tool), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** The newest modification below the paths, in ms; directories count themselves, so that a removal is seen. */
function newest(paths) {
  let time = 0;
  for (const path of paths) {
    if (!existsSync(path)) continue;
    const stat = statSync(path);
    time = Math.max(time, stat.mtimeMs);
    if (stat.isDirectory()) time = Math.max(time, newest(readdirSync(path).map((name) => join(path, name))));
  }
  return time;
}

/** Runs a step when an input is newer than the step's stamp, or an output is missing. */
function step(name, { inputs, outputs, say: text, run: work }) {
  const stamp = join(stamps, name);
  const before = newest(inputs);
  const fresh = existsSync(stamp) && statSync(stamp).mtimeMs >= before && outputs.every((path) => existsSync(path));
  if (fresh) return;
  say(text);
  work();
  mkdirSync(stamps, { recursive: true });
  writeFileSync(stamp, '');
  // Dated by what was built, so that a file saved during the build is not taken for built.
  utimesSync(stamp, before / 1000, before / 1000 + 0.001);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    fail(
      `Node.js ${process.versions.node} is too old; 20.19 or newer is needed`,
      'install Node.js 20.19 or newer (https://nodejs.org)',
    );
  }
  if (process.platform !== 'linux') fail(`${process.platform} has no cgroup freezer`, 'run this on Linux');
}

function debianPackages() {
  const wanted = [
    ['gcc', 'gcc libc6-dev'],
    ['g++', 'g++'],
    ['make', 'make'],
    ['python3', 'python3'],
    ['patchelf', 'patchelf'],
    ...(forTests
      ? [
          ['setfattr', 'attr'],
          ['busybox', 'busybox-static'],
          ['setcap', 'libcap2-bin'],
          ['zstd', 'zstd'],
          ['openssl', 'openssl'],
        ]
      : []),
  ]
    .filter(([tool]) => !onPath(tool))
    .flatMap(([, packages]) => packages.split(' '));
  if (wanted.length === 0) return;
  const command = `apt-get install -y --no-install-recommends ${wanted.join(' ')}`;
  if (!onPath('apt-get')) fail(`missing: ${wanted.join(', ')}`, 'install them with your package manager');
  if (process.getuid() !== 0) fail(`missing: ${wanted.join(', ')}`, `sudo ${command}`);
  say(`installing ${wanted.join(', ')}`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const install = () =>
    spawnSync('apt-get', command.split(' ').slice(1), { encoding: 'utf8', env: { ...process.env, ...env } });
  // Container images come without package lists; fetch them only when the packages are not found.
  if (install().status !== 0) {
    run('apt-get', ['update'], { env, remedy: 'check the network and /etc/apt/sources.list' });
    const { status, stderr } = install();
    if (status !== 0) fail(stderr.trim(), `apt-get update && ${command}`);
  }
}

/** Where this Node.js brought its headers along, addons are built against them, and none are downloaded. */
function headersHere() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(join(prefix, 'include/node/node_api.h')) ? { npm_config_nodedir: prefix } : {};
}

function npmPackages() {
  step('npm', {
    inputs: ['package.json', 'package-lock.json'],
    outputs: ['node_modules/.package-lock.json'],
    say: 'installing npm packages',
    run: () =>
      run('npm', ['ci', '--no-audit', '--no-fund'], { remedy: 'npm ci, and see what it says', env: headersHere() }),
  });
}

function build() {
  step('proto', {
    inputs: ['proto', 'scripts/generate-proto.mjs'],
    outputs: ['src/criu/generated/criu.js', 'dist/src/criu/generated/criu.js'],
    say: "generating CRIU's messages",
    run: () => run(process.execPath, ['scripts/generate-proto.mjs']),
  });
  step('native', {
    inputs: ['native', 'binding.gyp', 'scripts/build-native.mjs', process.execPath],
    outputs: ['build/Release/stillframe.node'],
    say: 'building the native part',
    run: () =>
      run(process.execPath, ['scripts/build-native.mjs'], {
        remedy: 'node scripts/build-native.mjs, and see what the compiler says',
      }),
  });
  step('typescript', {
    inputs: ['src', 'bench', 'examples', 'tsconfig.json', 'tsconfig.build.json'],
    outputs: ['dist/src/index.js', 'dist/src/cli/main.js'],
    say: 'compiling TypeScript',
    run: () => {
      // What an earlier source left behind would be published.
      rmSync('dist', { recursive: true, force: true });
      run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json']);
      run(process.execPath, ['scripts/generate-proto.mjs']); // the compiler does not copy JavaScript
    },
  });
  step('workloads', {
    inputs: ['workloads'],
    outputs: ['build/workloads/busy-writer'],
    say: 'building the workloads',
    run: () => {
      mkdirSync('build/workloads', { recursive: true });
      for (const file of readdirSync('workloads').filter((name) => name.endsWith('.c'))) {
        // Static: the dump then has few file mappings, and the same binary runs in any root file system.
        run('gcc', [
          '-std=gnu11',
          '-O2',
          '-Wall',
          '-Wextra',
          '-static',
          '-pthread',
          '-o',
          join('build/workloads', file.slice(0, -2)),
          join('workloads', file),
        ]);
      }
    },
  });
}

/** What the container tests run, by apt; without apt those tests say what they need. */
function containerTools() {
  if (!onPath('apt-get') || process.getuid() !== 0) return;
  const { status } = spawnSync('scripts/install-test-tools.sh', [], { stdio: ['ignore', 2, 2] });
  const newer = spawnSync('scripts/install-newer-tools.sh', [], { stdio: ['ignore', 2, 2] });
  if (status !== 0 || newer.status !== 0)
    say('the container tools could not be installed: tests that need them will fail and say so');
}

async function criu() {
  const { findCriu } = await import(join(root, 'dist/src/index.js'));
  try {
    await findCriu();
  } catch (error) {
    if (error.code !== 'CRIU_NOT_FOUND' && error.code !== 'CRIU_UNUSABLE') throw error;
    say('no CRIU on this machine works on this kernel; fetching one into .stillframe/');
    const { status } = spawnSync('scripts/install-criu.sh', [], { stdio: ['ignore', 2, 2] });
    if (status !== 0) process.exit(1);
    await findCriu();
  }
}

checkNode();
debianPackages();
npmPackages();
build();
if (forTests) containerTools();
await criu();
