import { InvalidArgumentError, type Command } from 'commander';
import {
  checkpointContainerEvery,
  checkpointEvery,
  ServiceManager,
  type CheckpointReport,
  type PhaseEvent,
  type SeriesEvent,
  type WarningEvent,
  type WindowEvent,
} from '../../index.js';
import { required } from '../arguments.js';
import { Cancelled, exitStatusOf } from '../cancelled.js';
import { refuseBeside } from '../container-options.js';
import { errorObject, errorText } from '../error-text.js';
import { EventLog } from '../event-log.js';
import { EXIT_FAILED } from '../exit-status.js';
import { bytes, json, milliseconds } from '../output.js';
import { print, printError } from '../streams.js';
import { warningsText } from '../warnings.js';
import { commonOptions, targetOf, type CheckpointFlags } from './checkpoint.js';

type Event = SeriesEvent<CheckpointReport>;

/** `checkpoint --every`: an event is a line of JSON, or of words. */
export async function checkpointEveryAction(
  options: CheckpointFlags & { every: number },
  command: Command,
): Promise<void> {
  const outputDir = required(options.output, '--output <dir>');
  if (outputDir === '-') throw new InvalidArgumentError('With --every, --output is a directory.');
  refuseBeside('--every', options, ['dryRun', 'overwrite', 'oci', 'criuLog']);
  using signals = new SeriesSignals();
  using events = options.events === undefined ? undefined : new EventLog(options.events);
  using manager = options.notify === true ? ServiceManager.connect() : undefined;
  const common = {
    ...commonOptions({ ...options, output: undefined }, signals.cancelled),
    outputDir,
    everyMs: options.every,
    keep: options.keep,
    finish: signals.finish,
    onProgress: (event: PhaseEvent) => {
      events?.write(event);
      manager?.follow(event);
    },
    onWindow: (event: WindowEvent) => events?.writeWindow(event),
    onWarning: (event: WarningEvent) => events?.writeWarning(event),
  };
  const { overwrite: _, criuLog: __, ...series } = common;
  const { container, tree } = await targetOf(options);
  const iteration: AsyncIterable<Event> =
    container !== undefined
      ? checkpointContainerEvery({ ...series, ...container })
      : checkpointEvery({ ...series, ...tree });
  const words = new EventWords(command);
  try {
    for await (const event of iteration) {
      if (event.kind === 'failed' || (event.kind === 'checkpoint' && event.notRemoved.length > 0))
        process.exitCode = EXIT_FAILED;
      if (options.json === true) print(json(asJson(event, command), 0));
      else words.say(event);
    }
  } catch (error) {
    if (!(error instanceof Cancelled)) throw error;
    printError(
      `stillframe: ${error.message}: the tree runs on, what was under way is discarded, older archives are kept`,
    );
    process.exitCode = exitStatusOf(error, signals.cancelled);
  }
}

/** SIGTERM says that the machine or the service goes away: one more checkpoint. All else, and another one, cancels. */
class SeriesSignals implements Disposable {
  readonly #finish = new AbortController();
  readonly #cancel = new AbortController();
  readonly finish = this.#finish.signal;
  readonly cancelled = this.#cancel.signal;

  constructor() {
    process.on('SIGTERM', this.#onTerm);
    process.on('SIGINT', this.#onOther);
    process.on('SIGHUP', this.#onOther);
  }

  readonly #onTerm = (): void => {
    if (this.finish.aborted) this.#cancel.abort(new Cancelled('SIGTERM'));
    else this.#finish.abort();
  };

  readonly #onOther = (name: NodeJS.Signals): void => this.#cancel.abort(new Cancelled(name as 'SIGINT' | 'SIGHUP'));

  [Symbol.dispose](): void {
    process.off('SIGTERM', this.#onTerm);
    process.off('SIGINT', this.#onOther);
    process.off('SIGHUP', this.#onOther);
  }
}

function asJson(event: Event, command: Command): Record<string, unknown> {
  const error = (value: unknown): unknown => errorObject(value, command);
  const time = new Date().toISOString();
  if (event.kind === 'failed') return { time, ...event, error: error(event.error) };
  if (event.kind === 'ended') return { time, ...event };
  const notRemoved = event.notRemoved.map(({ path, error: why }) => ({ path, error: error(why) }));
  return { time, ...event, notRemoved };
}

class EventWords {
  readonly #command: Command;
  #warnings = '';

  constructor(command: Command) {
    this.#command = command;
  }

  say(event: Event): void {
    if (event.kind === 'ended')
      return printError(
        `stillframe: process ${event.pid} has ended; ${
          event.archivePath === undefined
            ? 'there is no checkpoint of it'
            : `its last checkpoint is ${event.archivePath}`
        }`,
      );
    if (event.kind === 'failed') {
      printError(errorText(event.error, false, this.#command));
      return printError(
        `stillframe: ${event.isLast ? 'there is no last checkpoint' : 'the next one is tried at its time'}`,
      );
    }
    const { archivePath, report, removed, notRemoved } = event;
    // The same each time, as a rule.
    const warnings = warningsText(report.warnings, this.#command);
    if (warnings !== this.#warnings && warnings !== '') printError(warnings.trimEnd());
    this.#warnings = warnings;
    print(
      [
        `${archivePath} (${bytes(report.archiveBytes)}), frozen for ${milliseconds(report.windowMs)}`,
        ...(removed.length === 0 ? [] : [`${removed.length} older removed`]),
        ...(report.stopped ? ['the tree was ended'] : []),
      ].join(', '),
    );
    for (const { path, error } of notRemoved)
      printError(`stillframe: ${path} could not be removed: ${error instanceof Error ? error.message : String(error)}`);
  }
}
