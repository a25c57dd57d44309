import { createRequire } from 'node:module';

/** Of the package that this file is in, from src/ (tests) as from dist/. */
export function ownVersion(): string {
  return (createRequire(import.meta.url)('stillframe/package.json') as { version: string }).version;
}
