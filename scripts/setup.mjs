// setup.mjs [--tests | --quickstart]: makes a fresh clone ready to run, and does nothing twice. What it needs and does not find it
// says first.
//
//   1. Debian packages that the build needs (gcc, patchelf), by apt, when missing
//   2. npm packages (npm ci); with --quickstart without the tools of tests, linter, documentation and bench: a quarter of their size
//   3. the build: CRIU's protobuf messages, the native part, TypeScript, the workloads in C
//   4. a CRIU that works on the running kernel
//
// Only Node's own modules here: this runs before anything is installed.
import { spawn, spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { networkInterfaces } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const forTests = process.argv.includes('--tests');
const forQuickstart = process.argv.includes('--quickstart');
const stamps = join(root, '.stillframe', 'stamps');

function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

function fail(what, remedy) {
  say(what);
  say(`What to do: ${remedy}`);
  process.exit(1);
}

/** Runs a command, its output shown only when it fails; one that takes long is said to be still at work. */
async function run(command, args, { remedy, env = {} } = {}) {
  const began = Date.now();
  const alive = setInterval(() => say(`  ... ${Math.round((Date.now() - began) / 1000)} s`), 10_000);
  const { status, error, output } = await new Promise((resolve) => {
    let output = '';
    const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
    child.once('error', (error) => resolve({ error, output }));
    child.once('close', (status) => resolve({ status, output }));
  });
  clearInterval(alive);
  if (status === 0) return;
  process.stderr.write(output);
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

function isFresh(name, { inputs, outputs }) {
  const stamp = join(stamps, name);
  return existsSync(stamp) && statSync(stamp).mtimeMs >= newest(inputs) && outputs.every((path) => existsSync(path));
}

/** Runs a step when an input is newer than the step's stamp, or an output is missing. */
async function step(name, { inputs, outputs, say: text, run: work }) {
  const stamp = join(stamps, name);
  const before = newest(inputs);
  if (isFresh(name, { inputs, outputs })) return;
  say(text);
  await work();
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

// What is there may have been installed, or built, for the quickstart.
const npmStep = { inputs: ['package.json', 'package-lock.json'], outputs: ['node_modules/vitest'] };
const fewNpmStep = { inputs: npmStep.inputs, outputs: ['node_modules/typescript'] };
const typescriptStep = {
  inputs: ['src', 'bench', 'examples', 'tsconfig.json', 'tsconfig.build.json'],
  outputs: ['dist/src/index.js', 'dist/src/cli/main.js', 'dist/bench/main.js'],
};
const BUILD_TOOLS = ['typescript', 'protobufjs-cli', '@types/node', '@types/cli-progress'];

const hasPackages = () => isFresh('npm', npmStep) || (forQuickstart && isFresh('npm-quickstart', fewNpmStep));

function missingPackages() {
  return [
    ['gcc', 'gcc libc6-dev'],
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
}

/** Before anything is touched: all that is missing and that only a person can give. */
function checkNeeds() {
  const script = process.env.npm_lifecycle_event;
  const again = script === undefined ? 'sudo node scripts/setup.mjs' : `sudo npm run ${script}`;
  if (process.getuid() !== 0) fail('this needs root: CRIU and the freezer work for root only', again);
  const packages = missingPackages();
  const toFetch = [...packages, ...(hasPackages() ? [] : ['npm packages'])];
  if (toFetch.length === 0) return;
  if (!hasPackages() && !onPath('npm'))
    fail(
      'npm is missing',
      onPath('apt-get') ? 'apt-get install npm' : 'install npm (https://nodejs.org has it with Node.js)',
    );
  if (packages.length > 0 && !onPath('apt-get'))
    fail(`missing: ${packages.join(', ')}`, 'install them with your package manager');
  const addresses = Object.values(networkInterfaces()).flat();
  const proxied = Object.keys(process.env).some((name) => /^(https?|all)_proxy$/i.test(name));
  if (!proxied && addresses.every(({ internal }) => internal))
    fail(
      `${toFetch.join(', ')} must be fetched, and this machine has no network`,
      'run it where there is one; a second run needs none',
    );
  say(`to be fetched: ${toFetch.join(', ')}`);
}

async function debianPackages() {
  const wanted = missingPackages();
  if (wanted.length === 0) return;
  const args = ['install', '-y', '--no-install-recommends', ...wanted];
  say(`installing ${wanted.join(', ')}`);
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  // Container images come without package lists; fetch them only when the packages are not found.
  if (spawnSync('apt-get', args, { env: { ...process.env, ...env }, stdio: 'ignore' }).status === 0) return;
  await run('apt-get', ['update'], { env, remedy: 'check the network and /etc/apt/sources.list' });
  await run('apt-get', args, { env, remedy: `apt-get update && apt-get ${args.join(' ')}` });
}

/** Where this Node.js brought its headers along, addons are built against them, and none are downloaded. */
function headersHere() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(join(prefix, 'include/node/node_api.h')) ? { npm_config_nodedir: prefix } : {};
}

async function npmPackages() {
  if (hasPackages()) return;
  if (forQuickstart)
    await step('npm-quickstart', { ...fewNpmStep, say: 'installing npm packages', run: fewNpmPackages });
  else await allNpmPackages();
}

/** Those that the build and the library need, in the versions of the lock file: npm has no way to name some of them. */
async function fewNpmPackages() {
  const dir = join(root, '.stillframe', 'npm');
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true });
  for (const name of npmStep.inputs) {
    const json = JSON.parse(readFileSync(name, 'utf8'));
    const own = json.packages?.[''] ?? json;
    for (const tool of Object.keys(own.devDependencies))
      if (!BUILD_TOOLS.includes(tool)) delete own.devDependencies[tool];
    delete json.scripts;
    writeFileSync(join(dir, name), JSON.stringify(json));
  }
  const args = ['ci', '--prefix', dir, '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund'];
  await run('npm', args, { remedy: 'npm ci, and see what it says' });
  rmSync('node_modules', { recursive: true, force: true });
  renameSync(join(dir, 'node_modules'), 'node_modules');
  rmSync(dir, { recursive: true });
}

async function allNpmPackages() {
  await step('npm', {
    ...npmStep,
    say: 'installing npm packages',
    run: () =>
      run('npm', ['ci', '--no-audit', '--no-fund'], { remedy: 'npm ci, and see what it says', env: headersHere() }),
  });
}

function compileTo(config) {
  return {
    say: 'compiling TypeScript',
    run: async () => {
      // What an earlier source left behind would be published.
      rmSync('dist', { recursive: true, force: true });
      await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', config]);
      await run(process.execPath, ['scripts/generate-proto.mjs']); // the compiler does not copy JavaScript
    },
  };
}

async function build() {
  await step('proto', {
    inputs: ['proto', 'scripts/generate-proto.mjs'],
    outputs: ['src/criu/generated/criu.js', 'dist/src/criu/generated/criu.js'],
    say: "generating CRIU's messages",
    run: () => run(process.execPath, ['scripts/generate-proto.mjs']),
  });
  await step('native', {
    inputs: ['native', 'scripts/build-native.mjs', 'scripts/native-build.mjs'],
    outputs: ['build/Release/stillframe.node'],
    say: 'building the native part',
    run: () =>
      run(process.execPath, ['scripts/build-native.mjs'], {
        remedy: 'node scripts/build-native.mjs, and see what the compiler says',
      }),
  });
  if (!forQuickstart) await step('typescript', { ...typescriptStep, ...compileTo('tsconfig.build.json') });
  else if (!isFresh('typescript', typescriptStep)) {
    // Without the bench, whose packages are not there.
    const config = {
      extends: '../tsconfig.build.json',
      compilerOptions: { rootDir: '..', outDir: '../dist' },
      include: ['../src', '../examples'],
    };
    mkdirSync(stamps, { recursive: true });
    writeFileSync('.stillframe/tsconfig.json', JSON.stringify(config));
    await step('typescript-quickstart', {
      inputs: typescriptStep.inputs,
      outputs: ['dist/src/index.js', 'dist/examples/quickstart.js'],
      ...compileTo('.stillframe/tsconfig.json'),
    });
  }
  await step('workloads', {
    inputs: ['workloads'],
    outputs: ['build/workloads/busy-writer'],
    say: 'building the workloads',
    run: async () => {
      mkdirSync('build/workloads', { recursive: true });
      for (const file of readdirSync('workloads').filter((name) => name.endsWith('.c'))) {
        // Static: the dump then has few file mappings, and the same binary runs in any root file system.
        await run('gcc', [
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
checkNeeds();
await debianPackages();
await npmPackages();
await build();
if (forTests) containerTools();
await criu();
