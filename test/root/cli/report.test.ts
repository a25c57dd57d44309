/**
 * `inspect --html` of a real checkpoint, in which names and arguments are markup; in a real browser where there is one.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkpoint } from '../../../src/index.js';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { until } from '../../fixtures/criu.js';
import { startDetached } from '../../fixtures/detached.js';
import { stillframe } from '../../fixtures/program.js';
import { withScratch } from '../archive/archive-fixture.js';

const MARKUP = '<img src="x" onerror=\'alert(1)\'>&amp;</style><script>alert(1)</script>';
const ESCAPED =
  '&lt;img src=&quot;x&quot; onerror=&#39;alert(1)&#39;&gt;&amp;amp;' +
  '&lt;/style&gt;&lt;script&gt;alert(1)&lt;/script&gt;';
/** A file's name has no slash in it. */
const NAME = MARKUP.replaceAll('/', '');

/** Debian's package `chromium`, where it is installed: no other test needs it, and it is large. */
const hasBrowser = spawnSync('chromium', ['--version']).status === 0;

const withReport = (look: (page: string, dir: string) => Promise<void> | void): Promise<void> =>
  withCgroup(freezerVersions()[0]!, (cgroup) =>
    withScratch(async (dir) => {
      const data = join(dir, 'data');
      mkdirSync(join(data, 'sub'), { recursive: true });
      writeFileSync(join(data, NAME), 'x'.repeat(3000));
      writeFileSync(join(data, 'sub', 'large'), 'x'.repeat(5000));
      const { pid, kill } = await startDetached('python3', ['-c', 'import time; time.sleep(1000)', MARKUP]);
      // Where `python3` is a script that looks for it, its children are gone by then.
      await until(() => readFileSync(`/proc/${pid}/comm`, 'utf8').startsWith('python'), 'it is Python itself');
      cgroup.add(pid);
      const output = join(dir, 'a.tar');
      await checkpoint({ pid, cgroup: cgroup.path, files: [{ path: data, name: 'data' }], output });
      await kill();
      const page = join(dir, 'page.html');
      expect(await stillframe('inspect', output, '--html', page)).toEqual({ status: 0, stdout: '', stderr: '' });
      await look(page, dir);
    }),
  );

it('is one page for its owner, which says what the archive holds, loads nothing, and runs nothing', () =>
  withReport(async (page, dir) => {
    const text = readFileSync(page, 'utf8');
    expect(statSync(page).mode & 0o777).toBe(0o600);
    expect(text).toContain(ESCAPED);
    expect(text).not.toMatch(/<script|<img|<[a-z][^>]*\s(?:src|href|action|on\w+)=|url\(|@import/);
    expect(text).toContain('default-src &#39;none&#39;');
    const trees = text.slice(text.indexOf('id="file-trees"'));
    expect(trees.indexOf('sub/')).toBeLessThan(trees.indexOf('&lt;img')); // the larger first
    for (const id of ['summary', 'processes', 'memory', 'window', 'file-trees', 'files', 'sockets'])
      expect(text).toContain(`<h2 id="${id}">`);

    // What is there is not written over, and what does not go together is refused before anything is read.
    expect(await stillframe('inspect', join(dir, 'a.tar'), '--html', page)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('is there already') as string,
    });
    expect(readFileSync(page, 'utf8')).toBe(text);
    expect(await stillframe('inspect', join(dir, 'a.tar'), '--html', '-', '--json')).toMatchObject({ status: 2 });
    expect((await stillframe('inspect', join(dir, 'a.tar'), '--html', '-')).stdout).toBe(text);
  }));

it.skipIf(!hasBrowser)('is understood by a browser as it is meant', { timeout: 180_000 }, () =>
  withReport((page, dir) => {
    const args = [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      `--user-data-dir=${join(dir, 'profile')}`,
      '--dump-dom',
    ];
    const { stdout, status } = spawnSync('chromium', [...args, `file://${page}`], {
      encoding: 'utf8',
      timeout: 120_000,
    });
    expect(status).toBe(0);
    expect(stdout).not.toMatch(/<script|<img/);
    expect(stdout.match(/<h2 /g)?.length).toBeGreaterThanOrEqual(7);
    // As text, in an element: < and > of it are escaped, and nothing of it became an attribute.
    expect(stdout).toContain('<code>&lt;img src="x" onerror=\'alert(1)\'&gt;');
  }),
);
