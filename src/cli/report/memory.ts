import type { InspectedMapping, InspectedProcess } from '../../index.js';
import { bytes } from '../output.js';
import { dataTable, html, section, type Markup } from './markup.js';
import { commandOf } from './processes.js';

/** What a reader tells apart; the kinds of mappings are more. */
const GROUPS = [
  ['heap', ['heap']],
  ['stack', ['stack']],
  ['anonymous', ['anonymous']],
  ['shared', ['shared', 'memfd', 'sysv shared']],
  ['files', ['file', 'file shared']],
] as const satisfies [string, InspectedMapping['kind'][]][];
const OTHER = 'other';
const ALL_GROUPS: readonly string[] = [...GROUPS.map(([group]) => group), OTHER];

type Sums = Map<string, { mapped: number; dumped: number }>;

/** A bar a process, as long as what the archive holds of its memory, and of what kinds that is. */
export function memory(processes: readonly InspectedProcess[]): Markup {
  const known = processes.flatMap((process) =>
    process.mappings === undefined ? [] : [{ process, sums: sumsOf(process.mappings) }],
  );
  const longest = Math.max(...known.map(({ sums }) => dumpedOf(sums)), 1);
  return section(
    'memory',
    'Memory',
    html`<p>
        What the archive holds of each process's memory. Code and data of files that did not change are not in it.
      </p>
      <ul class="legend" aria-label="Colours">
        ${ALL_GROUPS.filter((group) => known.some(({ sums }) => sums.has(group))).map(
          (group) => html`<li><span class="key ${group}"></span>${group}</li>`,
        )}
      </ul>
      ${known.map(({ process, sums }) => bar(process, sums, longest))}
      <details>
        <summary>In numbers</summary>
        ${dataTable(
          'Memory by process and kind',
          ['pid', 'kind', 'mapped', 'in the archive'],
          known.flatMap(({ process, sums }) =>
            [...sums].map(([group, { mapped, dumped }]) => [process.pid, group, bytes(mapped), bytes(dumped)]),
          ),
        )}
      </details>`,
  );
}

function bar(process: InspectedProcess, sums: Sums, longest: number): Markup {
  const total = dumpedOf(sums);
  const parts = [...sums].filter(([, { dumped }]) => dumped > 0);
  const words = parts.map(([group, { dumped }]) => `${group} ${bytes(dumped)}`).join(', ');
  return html`<figure>
    <figcaption><b>${process.pid}</b> <code>${commandOf(process)}</code> ${bytes(total)}</figcaption>
    <div class="bar" role="img" aria-label="${words}" style="width: ${percent(total, longest)}%">
      ${parts.map(
        ([group, { dumped }]) =>
          html`<span
            class="${group}"
            style="width: ${percent(dumped, total)}%"
            title="${group}: ${bytes(dumped)}"
          ></span>`,
      )}
    </div>
  </figure>`;
}

function sumsOf(mappings: readonly InspectedMapping[]): Sums {
  const sums: Sums = new Map(ALL_GROUPS.map((group) => [group, { mapped: 0, dumped: 0 }]));
  for (const { kind, bytes: mapped, dumped } of mappings) {
    const group = GROUPS.find(([, kinds]) => (kinds as readonly string[]).includes(kind))?.[0] ?? OTHER;
    const sum = sums.get(group)!;
    sum.mapped += mapped;
    sum.dumped += dumped;
  }
  for (const [group, { mapped }] of sums) if (mapped === 0) sums.delete(group);
  return sums;
}

function dumpedOf(sums: Sums): number {
  return [...sums.values()].reduce((sum, { dumped }) => sum + dumped, 0);
}

function percent(part: number, whole: number): string {
  return ((part / whole) * 100).toFixed(2);
}
