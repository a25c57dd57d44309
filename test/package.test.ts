import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const prebuilds = `prebuilds/linux-${process.arch}`;

/** The package as an install leaves it in a project, without its native part. */
function installed(): string {
  const project = mkdtempSync(join(tmpdir(), 'stillframe-test-package-'));
  onTestFinished(() => rmSync(project, { recursive: true, force: true }));
  const home = join(project, 'node_modules/stillframe');
  mkdirSync(home, { recursive: true });
  for (const path of ['package.json', 'dist/src', 'native', 'scripts'])
    cpSync(join(root, path), join(home, path), { recursive: true });
  for (const name of ['protobufjs', 'long', 'commander', 'cli-progress', 'cli-table3', 'node-api-headers'])
    symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name));
  return project;
}

/** What a program of the project that calls the addon says. */
const useAddon = (project: string) =>
  spawnSync(
    process.execPath,
    ['--input-type=module', '-e', "const { openPipe } = await import('stillframe'); console.log(typeof openPipe())"],
    { cwd: project, encoding: 'utf8' },
  );

const install = (project: string, env: Record<string, string> = {}) =>
  spawnSync(process.execPath, ['scripts/build-native.mjs', '--if-needed'], {
    cwd: join(project, 'node_modules/stillframe'),
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });

test('the tarball has the JavaScript, the types and the native sources, no maps, no tests and no other scripts', () => {
  const json = execFileSync('npm', ['pack', '--dry-run', '--ignore-scripts', '--json'], {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [{ files }] = JSON.parse(json) as [{ files: { path: string }[] }];
  const paths = files.map(({ path }) => path);
  for (const name of ['index', 'public/criu', 'public/cgroup', 'public/containers'])
    expect(paths).toEqual(expect.arrayContaining([`dist/src/${name}.js`, `dist/src/${name}.d.ts`]));
  expect(paths).toEqual(expect.arrayContaining(['dist/src/criu/generated/criu.js', 'native/addon/addon.c', 'LICENSE']));
  expect(paths.filter((path) => /\.map$|\.test\.|^(test|bench|examples|workloads|src|build)\//.test(path))).toEqual([]);
  expect(paths.filter((path) => path.startsWith('scripts/')).sort()).toEqual([
    'scripts/build-native.mjs',
    'scripts/install-criu.sh',
    'scripts/native-build.mjs',
    'scripts/private-packages.sh',
  ]);
});

test('each subpath of the package can be imported, and has what the package itself has', () => {
  const script = `
    const whole = await import('stillframe');
    for (const name of ['criu', 'cgroup', 'containers'])
      for (const [key, value] of Object.entries(await import('stillframe/' + name)))
        if (whole[key] !== value) throw new Error(name + ': ' + key);
    console.log('same');`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: installed(),
    encoding: 'utf8',
  });
  expect(`${stdout}${stderr}`).toBe('same\n');
});

test('a build that the package carries is loaded, and nothing is compiled', () => {
  const project = installed();
  const carried = join(project, 'node_modules/stillframe', prebuilds);
  mkdirSync(carried, { recursive: true });
  const libc = isMusl() ? 'musl' : 'glibc';
  cpSync(join(root, 'build/Release/stillframe.node'), join(carried, `stillframe.${libc}.node`));
  expect(install(project, { CC: 'no-such-compiler' })).toMatchObject({ status: 0, stderr: '' });
  expect(useAddon(project)).toMatchObject({ status: 0, stdout: 'object\n' });
});

test('where the package lacks the tar for CRIU, `doctor` says it, and what to do', () => {
  const project = installed();
  const release = join(project, 'node_modules/stillframe/build/Release');
  cpSync(join(root, 'build/Release'), release, { recursive: true });
  const diagnosis = (): unknown => {
    const script = `
      const { findings } = await (await import('stillframe')).diagnose();
      console.log(JSON.stringify(findings.find(({ subject }) => subject === "CRIU's tar")));`;
    const args = ['--input-type=module', '-e', script];
    return JSON.parse(spawnSync(process.execPath, args, { cwd: project, encoding: 'utf8' }).stdout);
  };
  expect(diagnosis()).toMatchObject({ verdict: 'ok', what: join(release, 'criu-helpers/tar') });
  rmSync(join(release, 'criu-helpers'), { recursive: true });
  expect(diagnosis()).toMatchObject({
    verdict: 'note',
    what: expect.stringContaining("by the system's") as string,
    remedy: expect.stringContaining('npm rebuild stillframe') as string,
  });
}, 60_000);

test('without one it is compiled, and what is compiled is loaded', () => {
  const project = installed();
  expect(install(project)).toMatchObject({ status: 0 });
  expect(useAddon(project)).toMatchObject({ status: 0, stdout: 'object\n' });
}, 120_000);

test('without one and without a compiler, the install and each use say what to install and what to run then', () => {
  const project = installed();
  const { status, stderr } = install(project, { CC: 'no-such-compiler' });
  expect(status).toBe(1);
  expect(stderr).toContain('no-such-compiler');
  expect(stderr).toContain('Then: npm rebuild stillframe');
  const use = useAddon(project);
  expect(use.stderr).toContain('NATIVE_MISSING');
  expect(use.stderr).toContain('npm rebuild stillframe');
  const doctor = spawnSync(process.execPath, ['node_modules/stillframe/dist/src/cli/main.js', 'doctor'], {
    cwd: project,
    encoding: 'utf8',
  });
  expect(doctor.status).toBe(1);
  expect(doctor.stdout).toMatch(/native part: the native part .* could not be loaded/);
  expect(doctor.stdout).toContain('npm rebuild stillframe');
}, 60_000);

/** Whether this Node.js itself is linked with musl: both can be on one machine. */
function isMusl(): boolean {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime === undefined;
}
