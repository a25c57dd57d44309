import type { ArchivedFile, ArchivedTree } from '../../index.js';
import { bytes } from '../output.js';
import { html, NOTHING, section, type Markup } from './markup.js';

/** Of a directory's entries the largest are shown; a page with more is not read. */
const MOST_SHOWN = 30;
const MAX_DEPTH = 12;

export function fileTrees(trees: readonly ArchivedTree[]): Markup {
  return section(
    'file-trees',
    'Files in the archive',
    trees.length === 0
      ? html`<p>None.</p>`
      : html`<ul class="tree">
          ${trees.map(
            ({ name, source, root, deleted }) =>
              html`<li>
                <details open>
                  <summary>
                    <b>${name}</b> <span class="quiet">was at</span> <code>${source}</code> ${sizeOf(root)}
                  </summary>
                  ${entries(root, 0)} ${removed(deleted)}
                </details>
              </li>`,
          )}
        </ul>`,
  );
}

function entries({ children, unlisted }: ArchivedFile, depth: number): Markup {
  const shown = depth < MAX_DEPTH ? children.slice(0, MOST_SHOWN) : [];
  const rest = children.slice(shown.length);
  const left = rest.length + unlisted;
  const size = bytes(rest.reduce((sum, child) => sum + child.bytes, 0));
  return html`<ul>
    ${shown.map((child) => html`<li>${entry(child, depth)}</li>`)}
    ${left === 0 ? NOTHING : html`<li class="quiet">${left} more (${size})</li>`}
  </ul>`;
}

function entry(file: ArchivedFile, depth: number): Markup {
  if (!file.isDirectory) return html`<code>${file.name}</code> ${sizeOf(file)}`;
  if (file.children.length + file.unlisted === 0) return html`<code>${file.name}/</code> ${sizeOf(file)}`;
  return html`<details>
    <summary><code>${file.name}/</code> ${sizeOf(file)}</summary>
    ${entries(file, depth + 1)}
  </details>`;
}

function sizeOf({ bytes: size, files, isDirectory }: ArchivedFile): Markup {
  return html`<span class="quiet"
    >${bytes(size)}${isDirectory ? `, ${files} ${files === 1 ? 'file' : 'files'}` : ''}</span
  >`;
}

function removed(deleted: readonly string[]): Markup {
  if (deleted.length === 0) return NOTHING;
  return html`<p>Removed from the image (${deleted.length}):</p>
    <pre tabindex="0">${deleted.slice(0, 1000).join('\n')}${deleted.length > 1000 ? '\n...' : ''}</pre>`;
}
