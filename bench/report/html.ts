import { figuresOf } from '../figures.js';
import type { BenchResult } from '../results.js';
import {
  CASE_HEAD,
  caseRow,
  FIGURE_HEAD,
  figureRow,
  machineLines,
  problemsOf,
  ROUND_TRIP_HEAD,
  roundTripRow,
  SMALL_HEAD,
  smallRows,
} from '../tables.js';
import { againstBytes, againstFileCount, againstMemory, timeline, type Plotted } from './plots.js';

const STYLE = `
:root { color-scheme: light; --ink: #1c2024; --quiet: #60646c; --line: #e0e1e6; --accent: #0b6bcb; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1000px; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; } h3 { font-size: 1rem; margin: 1.6rem 0 .2rem; }
p, figcaption { color: var(--quiet); margin: .2rem 0 .8rem; max-width: 46rem; }
figure { margin: 1.6rem 0; } figure svg { max-width: 100%; height: auto; overflow: visible; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; color: var(--quiet); } td { text-align: right; }
td + td { white-space: nowrap; } th, td { padding: .25rem .5rem; border-bottom: 1px solid var(--line); } th:first-child, td:first-child { text-align: left; }
.missed td:last-child { color: #b42318; font-weight: 600; } .reached td:last-child { color: #117a3d; }
.us td { font-weight: 600; background: #f2f7fd; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: 13px; } dt { color: var(--quiet); } dd { margin: 0; }
`;

/** The whole report in one file: no script, no font, nothing fetched. */
export function reportHtml(result: BenchResult): string {
  const plots = [againstBytes(result), againstFileCount(result), againstMemory(result), timeline(result)].filter(
    (plot) => plot !== undefined,
  );
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Stillframe: how long it stands still</title><style>${STYLE}</style></head>
<body>
<h1>How long it stands still</h1>
<p>The longest hole in a workload's own execution while it is checkpointed and runs on, seen by the workload itself. Medians of up to ${result.runs} rounds; the contenders take turns within one run, and a first round is discarded for all alike. ${escape(result.startedAt.slice(0, 10))}.</p>
<dl>${machineLines(result.machine)
    .map(([name, value]) => `<dt>${escape(name)}</dt><dd>${escape(value)}</dd>`)
    .join('')}</dl>
${plots.map(plotHtml).join('\n')}
<h2>Figures to reach</h2>
${figuresTable(result)}
<h2>Every case</h2>
${result.cases
  .map(
    (found) =>
      `<h3>${escape(found.scenario.name)}</h3>${tableHtml(CASE_HEAD, found.contenders.filter(({ samples }) => samples.length > 0).map(caseRow), (row) => (row[0]?.startsWith('stillframe') === true ? 'us' : ''))}${problemsOf(
        found,
      )
        .map((problem) => `<p>${escape(problem)}</p>`)
        .join('')}`,
  )
  .join('\n')}
${result.small.length === 0 ? '' : `<h2>Small measurements</h2>${tableHtml(SMALL_HEAD, result.small.flatMap(smallRows))}`}
${result.roundTrips.length === 0 ? '' : `<h2>Round trips</h2>${tableHtml(ROUND_TRIP_HEAD, result.roundTrips.map(roundTripRow))}`}
</body></html>
`;
}

function plotHtml({ title, caption, svg }: Plotted): string {
  return `<figure><h2>${escape(title)}</h2><figcaption>${escape(caption)}</figcaption>${svg}</figure>`;
}

function figuresTable(result: BenchResult): string {
  return tableHtml(
    FIGURE_HEAD,
    figuresOf(result).map(figureRow),
    (row) => ({ reached: 'reached', 'NOT REACHED': 'missed' })[row[3] ?? ''] ?? '',
  );
}

function tableHtml(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  rowClass: (row: readonly string[]) => string = () => '',
): string {
  const cells = (row: readonly string[], tag: string): string =>
    row.map((cell) => `<${tag}>${escape(cell)}</${tag}>`).join('');
  return `<table><thead><tr>${cells(head, 'th')}</tr></thead><tbody>${rows.map((row) => `<tr class="${rowClass(row)}">${cells(row, 'td')}</tr>`).join('')}</tbody></table>`;
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);
}
