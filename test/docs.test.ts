import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = new URL('..', import.meta.url).pathname;
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** The keys of a room's table of error texts. */
function codesIn(path: string): string[] {
  return [...read(path).matchAll(/^ {2}([A-Z][A-Z_]+): \(/gm)].map(([, code]) => code!);
}

const pages = [
  'README.md',
  ...readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

/** What the compiler, as strict as it can be, says of the programs that the pages show; `name:line` is that of the page. */
function complaintsAboutExamples(): string[] {
  const programs = new Map<string, { page: string; line: number; text: string }>();
  for (const page of pages) {
    for (const { 1: text = '', index } of read(page).matchAll(/^```ts\n(.*?)^```$/gms)) {
      const line = read(page).slice(0, index).split('\n').length;
      programs.set(join(root, `example-${programs.size}.ts`), { page, line, text: `${text}export {};\n` });
    }
  }
  const options: ts.CompilerOptions = {
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    noEmit: true,
    skipLibCheck: true,
    types: ['node'],
    typeRoots: [join(root, 'node_modules/@types')],
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    paths: { stillframe: [join(root, 'dist/src/index.d.ts')] },
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (name) => programs.has(name) || fileExists(name);
  host.readFile = (name) => programs.get(name)?.text ?? readFile(name);
  host.getSourceFile = (name, ...rest) => {
    const text = programs.get(name)?.text;
    return text === undefined ? getSourceFile(name, ...rest) : ts.createSourceFile(name, text, ts.ScriptTarget.ES2022);
  };
  expect(programs.size).toBeGreaterThan(2);
  return ts
    .getPreEmitDiagnostics(ts.createProgram([...programs.keys()], options, host))
    .map(({ file, start, messageText }) => {
      const { page, line } = programs.get(file?.fileName ?? '') ?? { page: file?.fileName ?? '', line: 0 };
      return `${page}:${line + 1 + (file?.getLineAndCharacterOfPosition(start ?? 0).line ?? 0)}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    });
}

const errorFiles = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('-error.ts'),
);

describe('the documentation', () => {
  it.each(errorFiles)('has a line for every code of %s', (name) => {
    const codes = codesIn(join('src', name));
    expect(codes.length).toBeGreaterThan(5);
    const page = read('docs/errors.md');
    expect(codes.filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
  });

  it('has a line for every warning', () => {
    const codes = codesIn('src/checkpoint/warnings/warning.ts');
    expect(codes.length).toBeGreaterThan(3);
    const page = read('docs/warnings.md');
    expect(codes.filter((code) => !page.includes(`| \`${code}\` |`))).toEqual([]);
  });

  it('shows programs that compile against the built package', { timeout: 300_000 }, () => {
    expect(complaintsAboutExamples()).toEqual([]);
  });

  it.each(pages)('%s links only to files that are there', (page) => {
    const links = [...read(page).matchAll(/\]\((?!https?:|#)([^)#]+)/g)].map(([, link]) => link!);
    const missing = links.filter((link) => {
      try {
        readFileSync(join(root, page, '..', link));
        return false;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code !== 'EISDIR';
      }
    });
    expect(missing).toEqual([]);
  });
});
