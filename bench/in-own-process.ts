import { fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CaseMessage } from './case.js';
import type { CaseResult } from './results.js';
import type { CasePlan } from './run-case.js';

/** Runs a case in a process of its own, so that no case has the heap of the one before. */
export async function runInOwnProcess(plan: CasePlan, onNote: (note: string) => void): Promise<CaseResult> {
  const child = fork(join(dirname(fileURLToPath(import.meta.url)), 'case.js'));
  return await new Promise((resolve, reject) => {
    child.on('message', (message: CaseMessage) => {
      if ('note' in message) onNote(message.note);
      else if ('result' in message) resolve(message.result);
      else reject(new Error(message.failed));
    });
    child.once('error', reject);
    child.once('exit', (code, signal) => reject(new Error(`the case's process ended with ${String(code ?? signal)}`)));
    child.send(plan);
  });
}
