/**
 * What an error tells people to do has to be something that they can do: each remedy, held against the options that
 * there are.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import ts from 'typescript';
import { expect, it } from 'vitest';
import { checkpointCommand } from './commands/checkpoint.js';
import { freezeCommand } from './commands/freezer.js';
import { prepareCommand } from './commands/prepare.js';
import { restoreCommand } from './commands/restore.js';
import { runCommand } from './commands/run.js';
import { inFlags } from './flags.js';

it("names a part of a list by that part's own flag", () => {
  expect(inFlags('`files[].exclude` is "", `files[].name` is 5', checkpointCommand(signal))).toBe(
    '--exclude is "", --files is 5',
  );
});

const src = new URL('..', import.meta.url).pathname;
const { signal } = new AbortController();
const commands = [checkpointCommand, restoreCommand, prepareCommand, freezeCommand, runCommand].map((make) =>
  make(signal),
);
const flags = new Set(commands.flatMap(({ options }) => options.flatMap(({ long }) => long ?? [])));
/** Options of functions that no command calls with them. */
const libraryOnly = ['freezeCgroup', 'imagesDir', 'maxBytes', 'parentImg'];

interface Remedy {
  file: string;
  text: string;
}

/** The text of every `remedy` in the sources; what is put into it is a word. */
function remedies(): Remedy[] {
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /(?<!\.test|\.d)\.ts$/.test(name),
  );
  return files.flatMap((file) => {
    const source = ts.createSourceFile(file, readFileSync(join(src, file), 'utf8'), ts.ScriptTarget.ES2022, true);
    const found: Remedy[] = [];
    const visit = (node: ts.Node): void => {
      if (ts.isPropertyAssignment(node) && node.name.getText() === 'remedy')
        for (const text of texts(node.initializer, source)) found.push({ file, text });
      ts.forEachChild(node, visit);
    };
    visit(source);
    return found;
  });
}

function texts(node: ts.Node, source: ts.SourceFile): string[] {
  if (ts.isStringLiteralLike(node)) return [node.text];
  if (ts.isTemplateExpression(node))
    return [
      node.templateSpans.reduce((text, { expression, literal }) => {
        const inner = ts.isIdentifier(expression) ? constant(expression.text, source) : undefined;
        return text + (inner ?? 'X') + literal.text;
      }, node.head.text),
    ];
  if (ts.isIdentifier(node)) return [constant(node.text, source) ?? ''];
  if (ts.isConditionalExpression(node)) return [node.whenTrue, node.whenFalse].flatMap((part) => texts(part, source));
  if (ts.isBinaryExpression(node)) return [node.left, node.right].flatMap((part) => texts(part, source));
  if (ts.isParenthesizedExpression(node)) return texts(node.expression, source);
  return [];
}

/** The text of a constant of the file. */
function constant(name: string, source: ts.SourceFile): string | undefined {
  for (const statement of source.statements) {
    if (!ts.isVariableStatement(statement)) continue;
    for (const { name: declared, initializer } of statement.declarationList.declarations)
      if (declared.getText() === name && initializer !== undefined && ts.isStringLiteralLike(initializer))
        return initializer.text;
  }
  return undefined;
}

/** As the one of the commands says it that has the most of the options. */
function asTold(text: string): string {
  const left = (told: string): number => [...told.matchAll(/`[a-zA-Z]+(?:: [^`]*)?`/g)].length;
  return commands.map((command) => inFlags(text, command)).sort((a, b) => left(a) - left(b))[0]!;
}

it('finds the remedies of all rooms', () => {
  const all = remedies();
  expect(all.length).toBeGreaterThan(150);
  for (const room of ['archive', 'cgroup', 'checkpoint', 'container', 'criu'])
    expect(
      all.some(({ file }) => file.startsWith(room)),
      room,
    ).toBe(true);
});

it('every remedy names options in backticks, and the command has each of them', () => {
  const lost = remedies().filter(({ text }) =>
    [...asTold(text).matchAll(/`([a-zA-Z]+)(?:: [^`]*)?`/g)].some(
      ([, name]) => !libraryOnly.includes(name!) && /^[a-z]+[A-Z]|^(?:root|external|files|retries)$/.test(name!),
    ),
  );
  expect(lost).toEqual([]);
});

it('no remedy names an option outside of backticks, where the command could not translate it', () => {
  const bare = remedies().filter(({ text }) =>
    /\b[a-z]+[A-Z]\w*\b(?!\()/.test(text.replace(/`[^`]*`/g, '').replace(/\bmacOS|vDSO\b/g, '')),
  );
  expect(bare, 'write `workDir` for an option: the command makes --work-dir of it').toEqual([]);
});

it('every flag in a remedy of the command is one of its flags', () => {
  const wrong = remedies().flatMap(({ file, text }) =>
    [...asTold(text).matchAll(/(?<![\w-])--[a-z][a-z-]*/g)]
      .map(([flag]) => flag)
      .filter((flag) => !flags.has(flag))
      // Those of other programs stand behind their names.
      .filter((flag) => !new RegExp(`(?:podman|criu|mount|unshare)\\b[^.,;:]* ${flag}`).test(text))
      .map((flag) => ({ file, flag, text })),
  );
  expect(wrong).toEqual([]);
});

it.each([
  ['raise `maxFrozenMs`', 'raise --max-frozen'],
  ['`adopt: true`', '--adopt'],
  ['set `ghostLimit`', 'set --ghost-limit'],
  ["choose `networkLock: 'nftables'`", 'choose --network-lock nftables'],
  ["set `emptyNs: ['net']`", 'set --criu emptyNs=net'],
  ['set `extMasters`', 'set --criu extMasters'],
  ['`files[].name` is "x"', '--files is "x"'],
  ['`watchFromMs: Infinity`', '--no-watch'],
  ['see `stillframe doctor`', 'see `stillframe doctor`'],
  ['`noSuchThing`', '`noSuchThing`'],
])('says %j as %j', (text, told) => {
  expect(inFlags(text, checkpointCommand(signal))).toBe(told);
});

it('leaves to a command without options what it cannot say', () => {
  expect(inFlags('`adopt: true`, `tcpClose`', new Command())).toBe('`adopt: true`, `tcpClose`');
});
