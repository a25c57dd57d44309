// Compiles native/: the addon, which needs nothing but Node-API and libc, and static programs. Used for this machine
// (build-native.mjs) and for all that the package carries (prebuild.mjs). A folder among the sources stands for all its .c files.
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

const flags = [
  '-std=gnu11',
  '-O2',
  '-Wall',
  '-Wextra',
  '-Wno-unused-parameter',
  '-Werror=implicit-function-declaration',
];
const hardened = '-Wl,-z,relro,-z,now';

const addon = {
  sources: ['native/addon', 'native/tree', 'native/archive', 'native/remove'],
  // A Node-API version that Node.js 20 has; what a newer one offers is not asked for.
  compile: [
    '-fPIC',
    '-fvisibility=hidden',
    '-DNAPI_VERSION=8',
    '-DNODE_GYP_MODULE_NAME=stillframe',
    '-DBUILDING_NODE_EXTENSION',
  ],
  // It stays loaded (nodelete): a thread of its own may outlive the worker that loaded it.
  link: ['-shared', '-pthread', `${hardened},-z,nodelete`],
};

// Programs of their own, static: they start in under a millisecond, and need nothing that could be gone when they act.
const program = (sources) => ({
  sources,
  compile: ['-fno-asynchronous-unwind-tables', '-ffunction-sections'],
  link: ['-static', `${hardened},--gc-sections`],
});

export const targets = {
  'stillframe.node': addon,
  'stillframe-guardian': program(['native/guardian', 'native/remove/remove.c']),
  'stillframe-hold-session': program(['native/programs']),
  'stillframe-init': program(['native/init']),
  // Alone in its folder, which a CRIU has on its PATH.
  'criu-helpers/tar': program(['native/criu-tar']),
  'stillframe-launch': program(['native/launch']),
};

/** node_api.h and what it includes: of the package that has nothing else, or what this Node.js brought along. */
function nodeApiHeaders() {
  try {
    return createRequire(import.meta.url)('node-api-headers').include_dir;
  } catch {
    return join(dirname(dirname(process.execPath)), 'include/node');
  }
}

const words = (text) => (text ?? '').split(' ').filter((word) => word !== '');

/**
 * @param {object} options
 * @param {string[]} options.compiler the compiler and what it always gets; default $CC, else gcc
 * @param {string} options.objects the directory for object files: what is newer than its sources is not compiled again
 * @param {Record<string, string>} options.outputs the path for each target that is wanted
 */
export async function buildNative({ compiler = words(process.env.CC ?? 'gcc'), objects, outputs, strip = false }) {
  const headers = newest('native', (name) => name.endsWith('.h'));
  const own = statSync(fileURLToPath(import.meta.url)).mtimeMs;
  for (const [name, output] of Object.entries(outputs)) {
    const { sources, compile, link } = targets[name];
    const directory = join(objects, name);
    mkdirSync(directory, { recursive: true });
    const jobs = sources.flatMap(filesOf).map((source) => ({
      source,
      object: join(directory, `${source.replaceAll('/', '-')}.o`),
    }));
    const include = name === 'stillframe.node' ? ['-isystem', nodeApiHeaders()] : [];
    await inParallel(
      jobs.filter(({ source, object }) => mtimeMs(object) <= Math.max(mtimeMs(join(root, source)), headers, own)),
      ({ source, object }) =>
        run([
          ...compiler,
          ...flags,
          '-D_GNU_SOURCE',
          '-include',
          'native/libc.h',
          ...compile,
          ...include,
          ...words(process.env.CFLAGS),
          '-c',
          source,
          '-o',
          object,
        ]),
    );
    mkdirSync(dirname(output), { recursive: true });
    // A running program cannot be written to, and one that is loaded must not be.
    rmSync(output, { force: true });
    await run([
      ...compiler,
      ...words(process.env.CFLAGS),
      ...link,
      ...words(process.env.LDFLAGS),
      ...(strip ? ['-s'] : []),
      ...jobs.map(({ object }) => object),
      '-o',
      output,
    ]);
  }
}

/** A file by itself, and the C files of a folder. */
function filesOf(source) {
  if (source.endsWith('.c')) return [source];
  const files = readdirSync(join(root, source)).filter((file) => file.endsWith('.c'));
  return files.map((file) => join(source, file));
}

function mtimeMs(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

function newest(folder, wanted) {
  const files = readdirSync(join(root, folder), { recursive: true }).filter(wanted);
  return Math.max(...files.map((file) => mtimeMs(join(root, folder, file))));
}

async function inParallel(jobs, work) {
  const queue = jobs[Symbol.iterator]();
  const worker = async () => {
    for (const job of queue) await work(job);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

function run([command, ...args]) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
    child.once('error', reject);
    child.once('exit', (status) => {
      if (status === 0) resolve();
      else reject(new Error(`${command} failed with status ${status}: ${args.at(-1)}`));
    });
  });
}
