import { styleText } from 'node:util';
import { diagnose } from '../../index.js';
import { json } from '../output.js';
import { EXIT_FAILED } from '../exit-status.js';
import { print } from '../streams.js';

const MARKS = { ok: 'ok     ', note: 'note   ', problem: 'PROBLEM' } as const;

const COLOURS = { ok: 'green', note: 'yellow', problem: ['red', 'bold'] } as const satisfies Record<
  string,
  Parameters<typeof styleText>[0]
>;

export async function doctorAction(options: { workDir?: string; json?: boolean }): Promise<void> {
  const diagnosis = await diagnose({ workDir: options.workDir });
  if (options.json === true) print(json(diagnosis));
  else {
    for (const { subject, verdict, what, remedy } of diagnosis.findings) {
      const mark = styleText(COLOURS[verdict], MARKS[verdict], { stream: process.stdout });
      process.stdout.write(`${mark}  `); // its colours are ours
      print(`${subject}: ${what}${remedy === '' ? '' : `\n         ${remedy}`}`);
    }
  }
  if (!diagnosis.usable) process.exitCode = EXIT_FAILED;
}
