import { existsSync, readFileSync } from 'node:fs';

/** The package's own file: two up from src/cli/ (tests), three from dist/src/cli/. */
const file = ['../../package.json', '../../../package.json']
  .map((path) => new URL(path, import.meta.url))
  .find((url) => existsSync(url)) as URL;

export function ownVersion(): string {
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
