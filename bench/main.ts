/**
 * npm run bench: every case and every small measurement, as tables, JSON and one HTML report. docs/bench.md says what
 * each means.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { StillframeError } from '../src/index.js';
import { parseArguments, type BenchArguments } from './arguments.js';
import { measureFreezer } from './freezer-layer.js';
import { runInOwnProcess } from './in-own-process.js';
import { describeMachine } from './machine.js';
import { StatusLine } from './progress.js';
import { figuresFor } from './report/chart.js';
import { reportHtml } from './report/html.js';
import type { BenchResult, SmallResult } from './results.js';
import { scenarios } from './scenarios.js';
import { caseText, machineLines, summaryText } from './tables.js';
import { measureRestore, RESTORES } from './restore-layer.js';
import { measureRoundTrips, ROUND_TRIPS } from './round-trip-layer.js';
import { measureVersion } from './version-layer.js';

const status = new StatusLine();
/** `--quick` begins nothing new after it; what is under way ends within two minutes on all but the busiest machine. */
const QUICK_MS = 80_000;
let interrupted = false;
// A case ends its workloads and thaws what it has frozen when it is interrupted: wait for it.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => (interrupted = true));

function say(text: string): void {
  status.clear();
  process.stdout.write(`${text}\n`);
}

async function measure(args: BenchArguments): Promise<BenchResult> {
  const wanted = (name: string): boolean => !interrupted && (args.only === undefined || args.only.test(name));
  const result: BenchResult = {
    machine: await describeMachine(args.directory),
    startedAt: new Date().toISOString(),
    runs: args.runs,
    cases: [],
    small: [],
    roundTrips: [],
  };
  say(
    machineLines(result.machine)
      .map(([name, value]) => `${`${name}:`.padEnd(13)}${value}`)
      .join('\n'),
  );
  say(
    `\nMedians of ${args.runs} rounds (least to most), the contenders in turn; a first round is discarded for all.\ngap: the longest hole in the workload's own execution, seen by the workload.\n`,
  );

  const notAfter = args.quick ? Date.now() + QUICK_MS : Infinity;
  for (const scenario of scenarios) {
    if (!wanted(scenario.name) || (args.quick && !scenario.quick) || (args.readme && !scenario.readme)) continue;
    if (Date.now() > notAfter) {
      say(`${scenario.name}\nleft out: this machine is too busy for it within the time of --quick\n`);
      continue;
    }
    const plan = {
      scenario,
      runs: args.runs,
      directory: args.directory,
      ...(args.with === undefined ? {} : { contenders: args.with.source }),
      ...(args.quick ? { notAfter } : {}),
    };
    const found = await runInOwnProcess(plan, (note) => status.show(`${scenario.name}: ${note}`));
    result.cases.push(found);
    say(`${caseText(found)}\n`);
  }
  if (args.readme) return result;
  result.small = await measureSmall(args, wanted);
  if (!args.quick && wanted(ROUND_TRIPS)) {
    result.roundTrips = await measureRoundTrips({
      times: args.runs,
      directory: args.directory,
      onNote: (note) => status.show(note),
      interrupted: () => interrupted,
    });
  }
  return result;
}

async function measureSmall(
  { quick, runs, directory }: BenchArguments,
  wanted: (name: string) => boolean,
): Promise<SmallResult[]> {
  const small: SmallResult[] = [];
  if (wanted('VERSION')) {
    status.show('VERSION');
    small.push(
      ...(await measureVersion(
        quick ? { warmTimes: 200, coldTimes: 10, crowdTimes: 3 } : { warmTimes: 1000, coldTimes: 200, crowdTimes: 20 },
      )),
    );
  }
  if (wanted('freeze and thaw'))
    small.push(...(await measureFreezer({ times: quick ? 10 : 50, onCase: (name) => status.show(name) })));
  for (const one of quick ? [] : RESTORES.filter(({ name }) => wanted(name))) {
    const plan = {
      times: runs,
      directory,
      onNote: (note: string) => status.show(note),
      interrupted: () => interrupted,
    };
    const found = await measureRestore(one, plan);
    if (found !== undefined) small.push(found);
  }
  return small;
}

/** Several runs as one: what they say of the machine is the first one's. */
async function readResults(paths: readonly string[]): Promise<BenchResult> {
  const results: BenchResult[] = [];
  for (const path of paths) results.push(JSON.parse(await readFile(path, 'utf8')) as BenchResult);
  const [first] = results;
  if (first === undefined) throw new Error('no results to read');
  const order = (name: string): number => scenarios.findIndex((scenario) => scenario.name === name);
  return {
    ...first,
    runs: Math.max(...results.map(({ runs }) => runs)),
    cases: results.flatMap(({ cases }) => cases).sort((a, b) => order(a.scenario.name) - order(b.scenario.name)),
    small: results.flatMap(({ small }) => small),
    roundTrips: results.flatMap(({ roundTrips }) => roundTrips),
  };
}

try {
  const args = parseArguments(process.argv);
  const result = args.from.length === 0 ? await measure(args) : await readResults(args.from);
  if (args.from.length > 0) say(`${result.cases.map(caseText).join('\n\n')}\n`);
  say(summaryText(result));
  if (args.json !== undefined) await writeFile(args.json, `${JSON.stringify(result, undefined, 1)}\n`);
  if (args.figures !== undefined)
    await writeFile(args.figures, `${JSON.stringify(figuresFor(result), undefined, 1)}\n`);
  if (args.report !== undefined) await writeFile(args.report, reportHtml(result));
} catch (error) {
  status.clear();
  process.stderr.write(
    `bench: ${error instanceof StillframeError ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  );
  process.exitCode = 1;
}
