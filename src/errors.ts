import { inspect } from 'node:util';
import { visible } from './visible.js';

/**
 * The base of every error this library throws on purpose.
 *
 * Match on `code`, not on the class or the message: two copies of a package can meet in one program.
 * The facts (path, pid, ...) are in `facts`; the system's own error, unchanged, is the `cause`.
 */
export abstract class StillframeError<Code extends string = string, Facts extends object = object> extends Error {
  readonly code: Code;
  readonly facts: Readonly<Facts>;
  /** What to do about it, one sentence or two; in the message, too. Names of options stand in backticks. */
  readonly remedy: string;

  /** @param facts Of this code, as the room's class has checked; `cause` is none of them. */
  protected constructor(code: Code, text: ErrorText, facts: object & { cause?: unknown }) {
    const { cause, ...rest } = facts;
    const parts = [`${text.what}${causeText(cause)}`, text.remedy, text.details ?? ''].filter((part) => part !== '');
    // Here for all: most messages hold a name or a path of somebody else's.
    super(visible(parts.join('\n')), cause === undefined ? undefined : { cause });
    this.code = code;
    this.remedy = visible(text.remedy);
    this.facts = Object.fromEntries(
      Object.entries(rest).map(([name, value]) => [name, asData(value)]),
    ) as unknown as Readonly<Facts>;
  }

  /** A plain object for `--json` and logs: name, code, message, remedy, facts, cause. */
  toJSON(): Record<string, unknown> {
    return {
      name: this.name,
      code: this.code,
      message: this.message,
      remedy: this.remedy,
      facts: this.facts,
      ...(this.cause === undefined ? {} : { cause: causeJson(this.cause) }),
    };
  }
}

/** What a room's error table makes of a code's facts. */
export interface ErrorText {
  /** The action, on what, with which value. No full stop. */
  what: string;
  /** The next step for the reader; '' when there is none. */
  remedy: string;
  /** What ends the message, for a person to look further: the lines of a log. */
  details?: string;
}

/**
 * A room's table: every code it has, and how its text is made of that code's facts. `Table` is the interface that says
 * which facts come with which code.
 */
export type ErrorTexts<Table> = {
  readonly [Code in keyof Table]: (facts: Table[Code] & { cause?: unknown }) => ErrorText;
};

type KeysOf<T> = T extends unknown ? keyof T : never;
type ValueOf<T, K> = T extends unknown ? (K extends keyof T ? T[K] : never) : never;

/**
 * The facts of an error: of one code those that the table says; where the code may be one of several also whatever any
 * of them has, if it is there.
 */
export type FactsOf<Table, Code extends keyof Table> = Table[Code] & {
  [K in Exclude<KeysOf<Table[Code]>, keyof Table[Code]>]?: ValueOf<Table[Code], K>;
};

/**
 * What another thread or process can be handed: a bad option may be anything, such as a stream or a function, which
 * would make an error that cannot be sent to whoever has to hear of it.
 */
function asData(value: unknown): unknown {
  if (typeof value !== 'object' && typeof value !== 'function' && typeof value !== 'symbol') return value;
  try {
    structuredClone(value);
    return value;
  } catch {
    return inspect(value, { breakLength: Infinity, depth: 0, maxArrayLength: 3 });
  }
}

function causeText(cause: unknown): string {
  if (cause === undefined) return '';
  const message = cause instanceof Error ? cause.message : String(cause);
  return `: ${message.split('\n')[0] ?? ''}`;
}

function causeJson(cause: unknown): unknown {
  if (cause instanceof StillframeError) return cause.toJSON();
  if (cause instanceof AggregateError)
    return { name: cause.name, message: cause.message, errors: cause.errors.map(causeJson) };
  if (cause instanceof Error) {
    const { code, errno, syscall } = cause as NodeJS.ErrnoException;
    return { name: cause.name, message: cause.message, ...(code === undefined ? {} : { code, errno, syscall }) };
  }
  return String(cause);
}

/** The first errno name ("ENOENT") along the chain of causes, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  for (let e: unknown = error; e instanceof Error; e = e.cause) {
    const { code, errno } = e as NodeJS.ErrnoException;
    if (typeof errno === 'number' && typeof code === 'string') return code;
  }
  return undefined;
}
