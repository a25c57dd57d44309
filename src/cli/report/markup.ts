/** HTML of which every text that comes from outside is escaped, because nothing else can be put into it. */
import { visible } from '../../visible.js';

/** Text that is HTML already. */
export class Markup {
  constructor(readonly text: string) {}
}

type Content = string | number | Markup | readonly Markup[];

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** A template of HTML: whatever is put in is text, in an element or in a quoted attribute, unless it is Markup. */
export function html(parts: TemplateStringsArray, ...contents: Content[]): Markup {
  return new Markup(parts.map((part, i) => (i === 0 ? part : markupOf(contents[i - 1] ?? '') + part)).join(''));
}

function markupOf(content: Content): string {
  if (content instanceof Markup) return content.text;
  if (typeof content === 'object') return content.map(({ text }) => text).join('');
  return visible(String(content)).replace(/[&<>"']/g, (char) => ESCAPES[char] ?? char);
}

export const NOTHING = new Markup('');

/** A table that scrolls by itself where the page is narrow, with the keyboard, too. */
export function dataTable(caption: string, head: readonly string[], rows: readonly (readonly Content[])[]): Markup {
  return html`<div class="scroll" role="region" aria-label="${caption}" tabindex="0">
    <table>
      <caption>
        ${caption}
      </caption>
      <thead>
        <tr>
          ${head.map((name) => html`<th scope="col">${name}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (row) =>
            html`<tr>
              ${row.map((cell) => html`<td>${cell}</td>`)}
            </tr> `,
        )}
      </tbody>
    </table>
  </div>`;
}

export function section(id: string, title: string, content: Markup): Markup {
  return html`<section aria-labelledby="${id}">
    <h2 id="${id}">${title}</h2>
    ${content}
  </section>`;
}
