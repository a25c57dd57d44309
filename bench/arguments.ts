import { tmpdir } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';

export interface BenchArguments {
  runs: number;
  quick: boolean;
  /** The cases of the README, with its contenders. */
  readme: boolean;
  only: RegExp | undefined;
  with: RegExp | undefined;
  json: string | undefined;
  report: string | undefined;
  /** The gaps in short, for the chart. */
  figures: string | undefined;
  directory: string;
  /** Write nothing but the summary and the reports of an earlier run, read from these files. */
  from: string[];
}

export function parseArguments(argv: readonly string[]): BenchArguments {
  const options = new Command('npm run bench --')
    .description(
      'Measures the frozen window from inside the workload, side by side with other ways to checkpoint. Needs root.',
    )
    .option(
      '--runs <n>',
      'rounds that count; one more comes first and does not (default: 10, with --quick 3)',
      positive,
    )
    .option('--quick', 'few cases and few rounds: under two minutes', false)
    .option('--readme', 'the cases and contenders of the figures in the README', false)
    .option('--only <regex>', 'only the cases and small measurements whose name matches', pattern)
    .option('--with <regex>', 'only the contenders whose name matches', pattern)
    .option('--json <file>', 'write every sample as JSON')
    .option('--report <file.html>', 'write a report with plots, in one file')
    .option('--figures <file.json>', 'write median, least and most of each gap, for chart.js')
    .option('--directory <dir>', 'where the files under test are made: the file system that is measured', tmpdir())
    .option(
      '--from <file.json>',
      'measure nothing: tables and report of an earlier run; may be repeated',
      (file: string, before: string[] = []) => [...before, file],
    )
    .parse([...argv])
    .opts<Partial<BenchArguments> & { quick: boolean; readme: boolean; directory: string }>();
  return {
    runs: options.runs ?? (options.quick ? 3 : 10),
    quick: options.quick,
    readme: options.readme,
    only: options.only,
    with: options.with ?? (options.readme ? OF_THE_README : undefined),
    json: options.json,
    report: options.report,
    figures: options.figures,
    directory: options.directory,
    from: options.from ?? [],
  };
}

/** Stillframe as it is and looking at every file, the same by hand, and CRI-O's order. */
const OF_THE_README = /^stillframe$|every file|by hand|CRI-O's order/i;

function positive(text: string): number {
  const n = Number(text);
  if (!Number.isSafeInteger(n) || n < 1) throw new InvalidArgumentError('a number of rounds, 1 or more, is needed.');
  return n;
}

function pattern(text: string): RegExp {
  try {
    return new RegExp(text, 'i');
  } catch (cause) {
    throw new InvalidArgumentError(cause instanceof Error ? cause.message : 'not a regular expression.');
  }
}
