// An embedding program that is there to be killed. argv: a JSON object { options, kill?: { phase, at } }.
// It says "ready", waits for a line on stdin, and makes one checkpoint (or what `call` names); every phase
// is told on stdout. With `kill` it kills itself the moment that phase starts or ends: no other process could be as
// exact. With `hold?: { phase, at }` it stops itself then. With `fill?: { phase, at, path }` it writes to that path then until nothing more fits.
import { once } from 'node:events';
import { closeSync, openSync, writeSync } from 'node:fs';

const stillframe = await import(new URL('../../../dist/src/index.js', import.meta.url));
const { options, kill, hold, fill, call = 'checkpoint' } = JSON.parse(process.argv[2]);
const say = (line) => writeSync(1, `${line}\n`);

await stillframe.findCriu();
say('ready');
await once(process.stdin, 'data');
try {
  await stillframe[call]({
    ...options,
    onProgress: ({ phase, at }) => {
      if (at === 'progress') return;
      if (kill !== undefined && kill.phase === phase && kill.at === at) process.kill(process.pid, 'SIGKILL');
      if (hold !== undefined && hold.phase === phase && hold.at === at) process.kill(process.pid, 'SIGSTOP');
      if (fill !== undefined && fill.phase === phase && fill.at === at) fillUp(fill.path);
      say(`${phase} ${at}`);
    },
    // A restore has none, and refuses options that it has not.
    ...(call.startsWith('checkpoint') ? { onWindow: ({ windowMs }) => say(`window ${windowMs}`) } : {}),
  });
  say('done');
} catch (error) {
  say(`failed ${error.code ?? ''} ${JSON.stringify(String(error.message))}`);
}
process.exit(0);

function fillUp(path) {
  const fd = openSync(path, 'w');
  try {
    for (;;) writeSync(fd, Buffer.alloc(1 << 20));
  } catch (error) {
    if (error.code !== 'ENOSPC') throw error;
  }
  closeSync(fd);
}
