import type { InspectedDescriptor, InspectedProcess } from '../../index.js';
import { bytes } from '../output.js';
import { dataTable, html, NOTHING, section, type Markup } from './markup.js';

/** The tree, each process with all that is known of it folded away. */
export function processes(all: readonly InspectedProcess[]): Markup {
  const below = new Map<number, InspectedProcess[]>();
  const pids = new Set(all.map(({ pid }) => pid));
  for (const process of all) {
    const parent = pids.has(process.ppid) && process.ppid !== process.pid ? process.ppid : 0;
    below.set(parent, [...(below.get(parent) ?? []), process]);
  }
  return section(
    'processes',
    `Processes (${all.length})`,
    html`<ul class="tree">
      ${branches(below, 0, 0)}
    </ul>`,
  );
}

// A tree of images that somebody forged may be any chain; a browser's own limit is near 512.
const MAX_DEPTH = 100;

function branches(below: ReadonlyMap<number, InspectedProcess[]>, parent: number, depth: number): Markup[] {
  return (below.get(parent) ?? []).map((process) => {
    const inner = depth < MAX_DEPTH ? branches(below, process.pid, depth + 1) : [];
    return html`<li>
      <details>
        <summary>
          <b>${process.pid}</b> <code>${commandOf(process)}</code>
          <span class="quiet">${aside(process)}</span>
        </summary>
        ${detailsOf(process)}
      </details>
      ${
        inner.length === 0
          ? NOTHING
          : html`<ul>
              ${inner}
            </ul>`
      }
    </li>`;
  });
}

export function commandOf({ args, name }: InspectedProcess): string {
  return args === undefined || args.length === 0 ? `[${name}]` : args.join(' ');
}

function aside({ state, user, threads, memory }: InspectedProcess): string {
  return [
    state,
    ...(user === undefined ? [] : [`uid ${user.euid}`]),
    threads === 1 ? '1 thread' : `${threads} threads`,
    ...(memory === undefined ? [] : [`${bytes(memory.dumped)} dumped`]),
  ].join(', ');
}

function detailsOf(process: InspectedProcess): Markup {
  const { exe, cwd, root, ppid, pgid, sid, cgroups = [], env } = process;
  const known: [string, string | undefined][] = [
    ['executable', exe],
    ['working directory', cwd],
    ['root', root],
    ['parent, group, session', `${ppid}, ${pgid}, ${sid}`],
    ['cgroups', cgroups.map(({ controllers, path }) => `${controllers}:${path}`).join('  ')],
  ];
  const rows = known.filter(([, value]) => value !== undefined && value !== '') as [string, string][];
  return html`<dl>
      ${rows.map(
        ([name, value]) =>
          html`<dt>${name}</dt>
            <dd><code>${value}</code></dd>`,
      )}
    </dl>
    ${
      env === undefined
        ? NOTHING
        : html`<p>Environment</p>
            <pre tabindex="0">${env.join('\n')}</pre>`
    }`;
}

const isSocket = ({ kind }: InspectedDescriptor): boolean => kind.endsWith('socket');

export function openFiles(all: readonly InspectedProcess[]): Markup {
  const of = (isShown: (descriptor: InspectedDescriptor) => boolean): [InspectedProcess, InspectedDescriptor][] =>
    all.flatMap((process) =>
      process.descriptors.filter(isShown).map((d): [InspectedProcess, typeof d] => [process, d]),
    );
  const files = of((descriptor) => !isSocket(descriptor));
  const sockets = of(isSocket);
  return html`${section(
    'files',
    `Open files (${files.length})`,
    files.length === 0
      ? html`<p>None.</p>`
      : dataTable(
          'Open files, pipes and all else but sockets',
          ['pid', 'fd', 'kind', 'size', 'position', 'what'],
          files.map(([{ pid }, { fd, kind, size, pos, path, pipeId }]) => [
            ...[pid, fd, kind, size === undefined ? '' : bytes(size), pos ?? ''],
            html`<code>${path ?? (pipeId === undefined ? '' : `pipe ${pipeId}`)}</code>`,
          ]),
        ),
  )}
  ${section(
    'sockets',
    `Sockets (${sockets.length})`,
    sockets.length === 0
      ? html`<p>None.</p>`
      : dataTable(
          'Sockets',
          ['pid', 'fd', 'protocol', 'state', 'local', 'remote'],
          sockets.map(([{ pid }, { fd, kind, protocol, state, local, path, remote }]) => [
            ...[pid, fd, protocol ?? kind, state ?? ''],
            html`<code>${local ?? path ?? ''}</code>`,
            html`<code>${remote ?? ''}</code>`,
          ]),
        ),
  )}`;
}
