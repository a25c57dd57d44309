// release.mjs [--no-tests]: checks that what is checked out can be released, and packs it. It publishes nothing and tags nothing: it
// prints the commands that do.
//
//   1. nothing is uncommitted, and no tag of this version points elsewhere
//   2. package.json and package-lock.json have one version, and CHANGELOG.md a dated section of it that says something
//   3. REPOSITORY_URL and SECURITY_CONTACT have been filled in
//   4. formatted, linted, type-checked; the tests pass (--no-tests leaves them out, where CI has run them on this commit)
//   5. npm pack, and the package installs in an empty project and loads there
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const read = (path) => readFileSync(path, 'utf8');

function fail(what, remedy) {
  console.error(`release: ${what}\nWhat to do: ${remedy}`);
  process.exit(1);
}

/** A command whose output is only wanted when it fails. */
function run(command, args, { remedy = 'see the lines above', ...options } = {}) {
  console.error(`release: ${command} ${args.join(' ')}`);
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    ...options,
  });
  if (status === 0) return stdout;
  process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
  return fail(`${command} ${args.join(' ')} failed (${error?.message ?? `exit status ${status}`})`, remedy);
}

function checkTree(version) {
  const changes = run('git', ['status', '--porcelain']);
  if (changes !== '') fail(`uncommitted changes:\n${changes.trimEnd()}`, 'commit or stash them');
  const tag = `v${version}`;
  const tagged = spawnSync('git', ['rev-parse', '--verify', '--quiet', `${tag}^{commit}`], { encoding: 'utf8' });
  if (tagged.status === 0 && tagged.stdout !== run('git', ['rev-parse', 'HEAD']))
    fail(`${tag} is another commit`, 'raise the version: npm version --no-git-tag-version patch');
}

function checkVersion({ version }) {
  const lock = JSON.parse(read('package-lock.json'));
  if (lock.version !== version || lock.packages[''].version !== version)
    fail(`package-lock.json has version ${lock.version}, package.json ${version}`, 'npm install --package-lock-only');
  const section = read('CHANGELOG.md')
    .split(/^## /m)
    .find((text) => text.startsWith(`[${version}] - `));
  if (section === undefined)
    fail(`CHANGELOG.md has no section of ${version}`, `name it "## [${version}] - YYYY-MM-DD" instead of [Unreleased]`);
  if (!/^\[[^\]]+\] - \d{4}-\d{2}-\d{2}\n/.test(section) || !/^- /m.test(section))
    fail(`the section of ${version} in CHANGELOG.md has no date or says nothing`, `see CONTRIBUTING.md, "Releases"`);
}

function checkAddresses({ repository }) {
  if (repository === undefined)
    fail('package.json names no repository', 'set the fields that CONTRIBUTING.md lists under "Releases"');
  const open = run(
    'git',
    ['grep', '-lE', 'SECURITY_CONTACT|REPOSITORY_URL', '--', 'README.md', 'SECURITY.md', 'package.json', 'docs'],
    { remedy: '' },
  );
  if (open !== '') fail(`variables are left in ${open.trim().replaceAll('\n', ', ')}`, 'fill them in');
}

function tryPackage(tarball, { name }) {
  const project = mkdtempSync(join(tmpdir(), 'stillframe-release-'));
  try {
    writeFileSync(join(project, 'package.json'), '{ "private": true }\n');
    run('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', tarball], { cwd: project });
    run(process.execPath, ['-e', `require('${name}').freezerVersions()`], { cwd: project });
    run(join(project, 'node_modules/.bin', name), ['--help'], { cwd: project });
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
}

const manifest = JSON.parse(read('package.json'));
checkVersion(manifest);
checkTree(manifest.version);
checkAddresses(manifest);
for (const script of ['format:check', 'lint', 'typecheck']) run('npm', ['run', '--silent', script]);
if (!process.argv.includes('--no-tests')) run('npm', ['test'], { stdio: 'inherit' });
const tarball = join(root, run('npm', ['pack', '--silent']).trim().split('\n').at(-1));
if (!existsSync(tarball)) fail('npm pack wrote no file', 'see what npm pack says');
tryPackage(tarball, manifest);
console.log(`${tarball}
To publish it:
  git tag -a v${manifest.version} -m "Version ${manifest.version}" && git push origin v${manifest.version}
  npm publish ${tarball}`);
