/** One case in a process of its own: the plan comes as a message, notes and the result go back as messages. */
import { runCase, type CasePlan } from './run-case.js';
import type { CaseResult } from './results.js';

export type CaseMessage = { note: string } | { result: CaseResult } | { failed: string };

const abort = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => abort.abort());

function tell(message: CaseMessage): void {
  process.send?.(message);
}

process.once('message', (plan: CasePlan) => {
  runCase(plan, (note) => tell({ note }), abort.signal)
    .then(
      (result) => tell({ result }),
      (error: unknown) => tell({ failed: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    )
    .finally(() => process.disconnect());
});
