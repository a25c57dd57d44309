// An embedding program that is there to be killed in a `whileFrozen`, or stopped. argv: a JSON object
// { options, at?, workMs? }: at the start or end of that phase ("freeze start") it says so and goes on; in its callback
// it says "frozen" and works for that long.
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

const { whileFrozen } = await import(new URL('../../../dist/src/index.js', import.meta.url));
const { options, kill, workMs = 1000 } = JSON.parse(process.argv[2]);
try {
  await whileFrozen(
    {
      ...options,
      onProgress: ({ phase, at }) => {
        if (kill === `${phase} ${at}`) process.kill(process.pid, 'SIGKILL');
      },
    },
    async () => {
      writeSync(1, 'frozen\n');
      await sleep(workMs);
      writeSync(1, 'worked\n');
    },
  );
} catch (error) {
  writeSync(1, `failed ${error.code}\n`);
}
