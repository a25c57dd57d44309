import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist/', 'build/', '.stillframe/', 'src/criu/generated/', '**/*.mjs', 'scripts/', 'bench/results/', 'docs/'] },
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
    },
  },
  { files: ['bench/**', 'src/cli/**', 'test/**'], rules: { 'no-console': 'off' } },
  {
    // The walls of the house: who may import whom.
    files: ['src/cgroup/**', 'src/criu/**', 'src/archive/**'],
    rules: {
      'no-restricted-imports': ['error', { patterns: ['../cgroup/*', '../criu/*', '../archive/*', '../checkpoint/*', '../container/*', '../cli/*', '../index.js'] }],
    },
  },
  {
    files: ['src/checkpoint/**'],
    rules: { 'no-restricted-imports': ['error', { patterns: ['../container/*', '../cli/*', '../index.js'] }] },
  },
  {
    files: ['src/cli/**', 'bench/**'],
    rules: { 'no-restricted-imports': ['error', { patterns: ['**/cgroup/*', '**/criu/*', '**/archive/*', '**/checkpoint/*', '**/container/*'] }] },
  },
);
