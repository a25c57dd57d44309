import type { InspectedImages } from '../../index.js';
import { milliseconds } from '../output.js';
import { html, NOTHING, section, type Markup } from './markup.js';

/** For how long the tree stood still, and what took the time. */
export function frozenWindow({ archive, statistics }: InspectedImages): Markup {
  const windowMs = archive?.manifest?.subject['windowMs'];
  const spans: [string, number][] = [
    ...(typeof windowMs === 'number' ? ([['the whole window', windowMs]] satisfies [string, number][]) : []),
    ...(statistics === undefined
      ? []
      : ([
          ['CRIU stops the tasks', statistics.freezingTimeUs / 1000],
          ['CRIU holds the tasks', statistics.frozenTimeUs / 1000],
          ['of which it takes memory', statistics.memdumpTimeUs / 1000],
          ['of which it writes memory', statistics.memwriteTimeUs / 1000],
        ] satisfies [string, number][])),
  ];
  if (spans.length === 0) return NOTHING;
  const longest = Math.max(...spans.map(([, ms]) => ms), 0.001);
  return section(
    'window',
    'The frozen window',
    html`${spans.map(
      ([name, ms]) =>
        html`<figure>
          <figcaption>${name}: ${milliseconds(ms)}</figcaption>
          <div class="bar time" aria-hidden="true" style="width: ${((ms / longest) * 100).toFixed(2)}%"></div>
        </figure>`,
    )}`,
  );
}
