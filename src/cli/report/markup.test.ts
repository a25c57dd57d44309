import fc from 'fast-check';
import { expect, test } from 'vitest';
import { html, Markup } from './markup.js';

test('text stays text, in elements and in attributes, whatever it is', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const { text: page } = html`<p title="${text}">${text}</p>`;
      const inner = /^<p title="([^"<>']*)">([^"<>']*)<\/p>$/s.exec(page);
      expect(inner?.[1]).toBe(inner?.[2]);
      // Each & begins one of our own references, so none can be made of what follows it.
      expect(inner?.[1]).toMatch(/^(?:[^&]|&(?:amp|lt|gt|quot|#39);)*$/s);
    }),
  );
});

test('what a terminal would act on is shown, and markup is put in as it is', () => {
  expect(html`<p>${'a\x1b[31m\u202eb'}${new Markup('<br />')}${[html`<i>${1}</i>`, html`<i>${2}</i>`]}</p>`.text).toBe(
    '<p>a\\x1b[31m\\u202eb<br /><i>1</i><i>2</i></p>',
  );
});
