// Writes man/stillframe.8, made of the command's own definitions as they are built in dist/.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const { manPage } = await import(join(root, 'dist/src/cli/man-page.js'));
const { makeProgram } = await import(join(root, 'dist/src/cli/program.js'));
/** The newest release's, so that two builds of it are the same. */
const [, date = ''] =
  /^## \[\d+\.\d+\.\d+\] - (\d{4}-\d{2}-\d{2})/m.exec(readFileSync(join(root, 'CHANGELOG.md'), 'utf8')) ?? [];

const program = await makeProgram(undefined, new AbortController().signal);
mkdirSync(join(root, 'man'), { recursive: true });
writeFileSync(join(root, 'man/stillframe.8'), manPage(program, date));
