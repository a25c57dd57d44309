// build-native.mjs [--if-needed | --addon FILE]: compiles native/ for this machine into build/Release/, by $CC with $CFLAGS and
// $LDFLAGS. With --if-needed, as npm calls it on an install, it does nothing where the package carries a build that loads here;
// with --addon it makes the addon alone, as FILE.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { buildNative, root, targets } from './native-build.mjs';

if (process.argv.includes('--if-needed') && prebuildLoads()) process.exit(0);

const compiler = process.env.CC ?? 'gcc';
try {
  const at = process.argv.indexOf('--addon') + 1;
  if (at > 0) {
    const addon = resolve(process.argv[at]);
    await buildNative({ objects: `${addon}.objects`, outputs: { 'stillframe.node': addon } });
  } else {
    const release = join(root, 'build/Release');
    const outputs = Object.fromEntries(Object.keys(targets).map((name) => [name, join(release, name)]));
    await buildNative({ objects: join(root, 'build/obj'), outputs });
  }
} catch (error) {
  console.error(`stillframe: the native part could not be compiled: ${error.message}`);
  console.error(
    `What to do: it takes ${compiler}, the headers of libc and the kernel, and a static libc (libc.a):\n` +
      '  Debian, Ubuntu: apt-get install gcc libc6-dev     Fedora: dnf install gcc glibc-devel glibc-static\n' +
      '  Alpine: apk add gcc musl-dev linux-headers\n' +
      (existsSync(join(root, '.git')) ? 'Then: npm run build:native' : 'Then: npm rebuild stillframe'),
  );
  process.exit(1);
}

/** Asked of a process of its own: a build for another libc may end the one that loads it. */
function prebuildLoads() {
  const folder = join(root, 'prebuilds', `linux-${process.arch}`);
  if (!existsSync(folder)) return false;
  return readdirSync(folder)
    .filter((name) => name.endsWith('.node'))
    .some((name) => {
      const script = `require(${JSON.stringify(join(folder, name))})`;
      return spawnSync(process.execPath, ['-e', script], { stdio: 'ignore' }).status === 0;
    });
}
