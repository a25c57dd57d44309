/** chart.js FIGURES.json CHART.svg: draws what `npm run bench -- --figures FIGURES.json` has written. */
import { readFile, writeFile } from 'node:fs/promises';
import { chartOf, type Figures } from './report/chart.js';

const [from, to] = process.argv.slice(2);
if (from === undefined || to === undefined) {
  process.stderr.write('usage: chart.js FIGURES.json CHART.svg\n');
  process.exitCode = 2;
} else {
  await writeFile(to, `${chartOf(JSON.parse(await readFile(from, 'utf8')) as Figures)}\n`);
}
