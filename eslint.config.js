import tseslint from 'typescript-eslint';
import { noCircles } from './scripts/no-circles.mjs';

export default tseslint.config(
  {
    ignores: [
      'eslint.config.js',
      'dist/',
      'build/',
      '.stillframe/',
      'src/criu/generated/',
      '**/*.mjs',
      'scripts/',
      'bench/results/',
      'docs/',
    ],
  },
  ...tseslint.configs.strict,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/consistent-type-imports': 'error',
      'no-console': 'error',
      // `using _name = ...` holds something for the rest of a scope, and is not named again.
      '@typescript-eslint/no-unused-vars': ['error', { varsIgnorePattern: '^_' }],
    },
  },
  { files: ['bench/**', 'src/cli/**', 'test/**'], rules: { 'no-console': 'off' } },
  {
    files: ['src/**'],
    plugins: { house: { rules: { 'no-circles': noCircles } } },
    rules: { 'house/no-circles': 'error' },
  },
  // The walls of the house: who may import whom.
  ...[
    ['cgroup', ['criu', 'archive', 'checkpoint', 'container', 'cli']],
    ['criu', ['cgroup', 'archive', 'checkpoint', 'container', 'cli']],
    ['archive', ['cgroup', 'criu', 'checkpoint', 'container', 'cli']],
    ['checkpoint', ['container', 'cli']],
    ['container', ['cli']],
  ].map(([room, others]) => ({
    files: [`src/${room}/**`],
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [{ regex: `^(\\.\\./)+(${others.join('|')})/` }, { regex: '^(\\.\\./)+index\\.js$' }] },
      ],
    },
  })),
  {
    files: ['src/cli/**', 'bench/**'],
    // They measure a room by itself.
    ignores: ['bench/archive.ts', 'bench/changed-file.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: ['**/cgroup/*', '**/criu/*', '**/archive/*', '**/checkpoint/*', '**/container/*'] },
      ],
    },
  },
);
