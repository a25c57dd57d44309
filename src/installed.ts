import { closeSync, openSync, readSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));

/** The package's own directory: one up from src/ (tests), two from dist/src/. */
const roots = [join(here, '..'), join(here, '../..')];

/** Where a file of the native build can be: compiled here, else one of those that the package carries. */
export function builtPaths(name: string): string[] {
  const carried = name.endsWith('.node') ? name.replace(/node$/, `${libc()}.node`) : name;
  return [
    ...roots.map((root) => join(root, 'build/Release', name)),
    ...roots.map((root) => join(root, 'prebuilds', `linux-${process.arch}`, carried)),
  ];
}

/** Of this Node.js: the dynamic loader that its ELF header names is musl's, or else glibc's. */
function libc(): 'glibc' | 'musl' {
  const head = Buffer.alloc(4096);
  const fd = openSync('/proc/self/exe', 'r');
  try {
    readSync(fd, head, 0, head.length, 0);
  } finally {
    closeSync(fd);
  }
  return head.includes('/ld-musl-') ? 'musl' : 'glibc';
}

const isDependency = here.includes('/node_modules/');

/** A command that compiles the native part, where this runs: a dependency has not the scripts of a checkout. */
export const compileCommand = isDependency ? 'npm rebuild stillframe' : 'npm run build:native';

/** Where a CRIU of Stillframe's own is looked for: in a checkout, and where `stillframe install-criu` puts one. */
export const ownCriuPaths = [...roots.map((root) => join(root, '.stillframe/criu')), '/var/lib/stillframe/criu'].map(
  (prefix) => join(prefix, 'current/usr/sbin/criu'),
);
