/** npm run bench: every case and every small measurement, as tables, JSON and one HTML report. docs/bench.md says what each means. */
import { readFile, writeFile } from 'node:fs/promises';
import { StillframeError } from '../src/index.js';
import { parseArguments, type BenchArguments } from './arguments.js';
import { measureFreezer } from './freezer-layer.js';
import { runInOwnProcess } from './in-own-process.js';
import { describeMachine } from './machine.js';
import { StatusLine } from './progress.js';
import { reportHtml } from './report/html.js';
import type { BenchResult, SmallResult } from './results.js';
import { scenarios } from './scenarios.js';
import { caseText, machineLines, summaryText } from './tables.js';
import { measureVersion } from './version-layer.js';

const status = new StatusLine();
let interrupted = false;
// A case ends its workloads and thaws what it has frozen when it is interrupted: wait for it.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => (interrupted = true));

function say(text: string): void {
  status.clear();
  process.stdout.write(`${text}\n`);
}

async function measure(args: BenchArguments): Promise<BenchResult> {
  const wanted = (name: string): boolean => !interrupted && (args.only === undefined || args.only.test(name));
  const result: BenchResult = { machine: await describeMachine(args.directory), startedAt: new Date().toISOString(), runs: args.runs, cases: [], small: [] };
  say(machineLines(result.machine).map(([name, value]) => `${`${name}:`.padEnd(13)}${value}`).join('\n'));
  say(`\nMedians of ${args.runs} rounds (least to most), the contenders in turn; a first round is discarded for all.\ngap: the longest hole in the workload's own execution, seen by the workload.\n`);

  for (const scenario of scenarios) {
    if (!wanted(scenario.name) || (args.quick && !scenario.quick)) continue;
    const found = await runInOwnProcess({ scenario, runs: args.runs, directory: args.directory }, (note) => status.show(`${scenario.name}: ${note}`));
    result.cases.push(found);
    say(`${caseText(found)}\n`);
  }
  result.small = await measureSmall(args, wanted);
  return result;
}

async function measureSmall({ quick }: BenchArguments, wanted: (name: string) => boolean): Promise<SmallResult[]> {
  const small: SmallResult[] = [];
  if (wanted('VERSION')) {
    status.show('VERSION');
    small.push(...(await measureVersion(quick ? { warmTimes: 200, coldTimes: 10 } : { warmTimes: 1000, coldTimes: 30 })));
  }
  if (wanted('freeze and thaw')) small.push(...(await measureFreezer({ times: quick ? 20 : 100, onCase: (name) => status.show(name) })));
  return small;
}

try {
  const args = parseArguments(process.argv);
  const result = args.from === undefined ? await measure(args) : (JSON.parse(await readFile(args.from, 'utf8')) as BenchResult);
  if (args.from !== undefined) say(`${result.cases.map(caseText).join('\n\n')}\n`);
  say(summaryText(result));
  if (args.json !== undefined) await writeFile(args.json, `${JSON.stringify(result, undefined, 1)}\n`);
  if (args.report !== undefined) await writeFile(args.report, reportHtml(result));
} catch (error) {
  status.clear();
  process.stderr.write(`bench: ${error instanceof StillframeError ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  process.exitCode = 1;
}
