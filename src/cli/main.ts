#!/usr/bin/env node
import { ownVersion } from './version.js';

// Scripts ask for it often: nothing else is loaded for it.
if (process.argv.length === 3 && ['--version', '-V'].includes(process.argv[2] as string))
  process.stdout.write(`${ownVersion()}\n`);
else await import('./run.js');
