/** A rule for ESLint: no module of src/ imports itself by way of others, by imports of types included. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

const imports = new Map();

function importsOf(file) {
  let found = imports.get(file);
  if (found === undefined) {
    const names = [...readFileSync(file, 'utf8').matchAll(/^(?:import|export|\}) ?[^'\n]*'(\.[^']+)\.js';$/gm)];
    found = names.map(([, name]) => resolve(dirname(file), `${name}.ts`)).filter((path) => existsSync(path));
    imports.set(file, found);
  }
  return found;
}

/** The shortest way back to the file, which begins with what it imports. */
function circleOf(file) {
  const ways = importsOf(file).map((next) => [next]);
  const seen = new Set();
  for (const way of ways) {
    const last = way.at(-1);
    if (last === file) return way;
    if (seen.has(last)) continue;
    seen.add(last);
    for (const next of importsOf(last)) ways.push([...way, next]);
  }
  return undefined;
}

export const noCircles = {
  meta: { type: 'problem', schema: [] },
  create: (context) => ({
    Program(node) {
      const circle = circleOf(context.filename);
      if (circle !== undefined)
        context.report({
          node,
          message: `It imports itself: ${circle.map((path) => path.split('/src/')[1]).join(' -> ')}`,
        });
    },
  }),
};
