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

  protected constructor(code: Code, text: ErrorText, facts: Facts & { cause?: unknown }) {
    const { cause, ...rest } = facts;
    const parts = [`${text.what}${causeText(cause)}`, text.remedy, text.details ?? ''].filter((part) => part !== '');
    // Here for all: most messages hold a name or a path of somebody else's.
    super(visible(parts.join('\n')), cause === undefined ? undefined : { cause });
    this.code = code;
    this.remedy = visible(text.remedy);
    this.facts = rest as unknown as Readonly<Facts>;
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

/** A room's table: every code it has, and how its text is made from the facts. */
export type ErrorTexts<Code extends string, Facts> = { readonly [K in Code]: (facts: Facts) => ErrorText };

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
