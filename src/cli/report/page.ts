/** One page that says what a checkpoint holds: nothing to load, and nothing in it that runs. */
import type { InspectedImages } from '../../index.js';
import { bytes, milliseconds } from '../output.js';
import { ownVersion } from '../version.js';
import { fileTrees } from './file-trees.js';
import { html, Markup, NOTHING, section } from './markup.js';
import { memory } from './memory.js';
import { openFiles, processes } from './processes.js';
import { STYLE } from './style.js';
import { frozenWindow } from './window.js';

/** Whatever an archive's names say, the browser fetches nothing and runs nothing. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/**
 * @param images With `summary`, `files`, `maps`, `cgroups` and `statistics`.
 * @param inWords Gives a warning's remedy in the words of who reads it.
 */
export function reportPage(images: InspectedImages, title: string, inWords: (remedy: string) => string): string {
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="referrer" content="no-referrer" />
        <meta http-equiv="Content-Security-Policy" content="${POLICY}" />
        <title>${title}</title>
        <style>
          ${new Markup(STYLE)}
        </style>
      </head>
      <body>
        <header>
          <h1>Checkpoint <code>${title}</code></h1>
        </header>
        <main>
          ${warnings(images, inWords)} ${summary(images)} ${processes(images.processes)} ${memory(images.processes)}
          ${frozenWindow(images)} ${fileTrees(images.trees ?? [])} ${openFiles(images.processes)}
        </main>
        <footer>
          <p class="quiet">
            Made by stillframe ${ownVersion()}. Nothing was verified: see <code>stillframe verify</code>.
          </p>
        </footer>
      </body>
    </html> `;
  return page.text;
}

function warnings({ archive }: InspectedImages, inWords: (remedy: string) => string): Markup {
  const found = archive?.warnings ?? [];
  if (found.length === 0) return NOTHING;
  return section(
    'warnings',
    `Warnings (${found.length})`,
    html`${found.map(
      ({ code, message, remedy }) =>
        html`<div class="warning"><b>${code}</b> ${message}<br /><span class="quiet">${inWords(remedy)}</span></div>`,
    )}`,
  );
}

function summary({ archive, processes: all }: InspectedImages): Markup {
  if (archive === undefined) return NOTHING;
  const { manifest, container, compression, sizes, memberCount, memberBytes } = archive;
  const subject = manifest?.subject ?? {};
  const { createdAt, windowMs, kernel, criu } = subject as Record<string, unknown>;
  const field = (of: unknown, name: string): unknown =>
    typeof of === 'object' && of !== null ? (of as Record<string, unknown>)[name] : undefined;
  const rows: [string, unknown][] = [
    ['made by', manifest === undefined ? (container?.engine ?? 'another engine') : 'Stillframe'],
    ['made', createdAt ?? container?.checkpointedAt],
    ['container', [container?.name, container?.id].filter(Boolean).join(' ')],
    ['image', container?.image],
    ['pod', [container?.podNamespace, container?.podName].filter(Boolean).join('/')],
    ['runtime', container?.runtime],
    ['stood still', typeof windowMs === 'number' ? milliseconds(windowMs) : undefined],
    ['processes', all.length],
    ['members', `${memberCount} (${bytes(memberBytes)}${compression === 'none' ? '' : `, ${compression}`})`],
    ['memory', bytes(sizes.memory)],
    ['kernel', [field(kernel, 'release'), field(kernel, 'arch')].filter((part) => typeof part === 'string').join(', ')],
    ['CRIU', field(criu, 'version')],
  ];
  const given = rows.flatMap(([name, value]): [string, string | number][] =>
    (typeof value === 'string' && value !== '') || typeof value === 'number' ? [[name, value]] : [],
  );
  return section(
    'summary',
    'What it is',
    html`<dl>
      ${given.map(
        ([name, value]) =>
          html`<dt>${name}</dt>
            <dd>${value}</dd>`,
      )}
    </dl>`,
  );
}
