// prebuild.mjs: compiles all that the package carries, into prebuilds/linux-{x64,arm64}/: the addon for glibc and for musl, and the
// static programs, which are musl's for both. By Debian's cross compilers:
//   apt-get install gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross musl-tools
// and arm64's musl, which fetch-musl-arm64.sh unpacks into .stillframe/musl-arm64: a package of another architecture.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildNative, root, targets } from './native-build.mjs';

const work = join(root, 'build/prebuild');
const muslArm64 = join(root, '.stillframe/musl-arm64');
const addon = 'stillframe.node';

try {
  mkdirSync(work, { recursive: true });
  rmSync(join(root, 'prebuilds'), { recursive: true, force: true });
  await build('x64', 'glibc', ['x86_64-linux-gnu-gcc']);
  await build('arm64', 'glibc', ['aarch64-linux-gnu-gcc']);
  await build('x64', 'musl', [
    'x86_64-linux-gnu-gcc',
    ...musl('x64', 'x86_64-linux-musl', '', ['/usr/include', '/usr/include/x86_64-linux-gnu']),
  ]);
  if (!existsSync(muslArm64))
    execFileSync(join(root, 'scripts/fetch-musl-arm64.sh'), [muslArm64], { stdio: ['ignore', 2, 2] });
  await build('arm64', 'musl', [
    'aarch64-linux-gnu-gcc',
    ...musl('arm64', 'aarch64-linux-musl', muslArm64, ['/usr/aarch64-linux-gnu/include']),
  ]);
} catch (error) {
  rmSync(join(root, 'prebuilds'), { recursive: true, force: true });
  console.error(`prebuild: ${error.message}`);
  console.error(
    'What to do: apt-get install gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross musl-tools; see the head of this script',
  );
  process.exit(1);
}

async function build(arch, libc, compiler) {
  const folder = join(root, 'prebuilds', `linux-${arch}`);
  const names = libc === 'musl' ? Object.keys(targets) : [addon];
  await buildNative({
    compiler,
    objects: join(work, `${arch}-${libc}`),
    outputs: Object.fromEntries(
      names.map((name) => [name, join(folder, name === addon ? `stillframe.${libc}.node` : name)]),
    ),
    strip: true,
  });
}

/** What musl-gcc does, for any compiler: musl's specs, at the place where they are, and the kernel's headers after musl's own. */
function musl(arch, triplet, prefix, kernelHeaders) {
  const packaged = join(prefix || '/', 'usr/lib', triplet, 'musl-gcc.specs');
  if (!existsSync(packaged)) throw new Error(`${packaged} is missing`);
  const specs = join(work, `musl-${arch}.specs`);
  writeFileSync(specs, readFileSync(packaged, 'utf8').replaceAll(/\/usr\/(lib|include)\//g, `${prefix}/usr/$1/`));
  const headers = join(work, `kernel-${arch}`);
  mkdirSync(headers, { recursive: true });
  for (const name of ['linux', 'asm', 'asm-generic']) {
    const found = kernelHeaders.map((folder) => join(folder, name)).find((folder) => existsSync(folder));
    if (found === undefined) throw new Error(`the kernel's headers ${name}/ are not in ${kernelHeaders.join(', ')}`);
    rmSync(join(headers, name), { force: true });
    symlinkSync(found, join(headers, name));
  }
  return [`-specs=${specs}`, '-idirafter', headers];
}
