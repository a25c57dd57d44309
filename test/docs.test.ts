import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const root = new URL('..', import.meta.url).pathname;
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** The keys of a room's table of error texts. */
function codesIn(path: string): string[] {
  return [...read(path).matchAll(/^ {2}([A-Z][A-Z_]+): \(/gm)].map(([, code]) => code!);
}

const errorFiles = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('-error.ts'));

describe('the documentation', () => {
  it.each(errorFiles)('has a line for every code of %s', (name) => {
    const codes = codesIn(join('src', name));
    expect(codes.length).toBeGreaterThan(5);
    const page = read('docs/errors.md');
    expect(codes.filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
  });

  it.each(['README.md', ...readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => join('docs', name))])('%s links only to files that are there', (page) => {
    const links = [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, link]) => link!);
    const missing = links.filter((link) => {
      try {
        readFileSync(join(root, page, '..', link));
        return false;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code !== 'EISDIR';
      }
    });
    expect(missing).toEqual([]);
  });
});
