/**
 * The one door to the addon in native/. The addon holds mechanisms only: a function is one syscall (or
 * one loop of them off the event loop); it takes numbers and buffers, and throws an errno error
 * (`code`, `errno`, `syscall`) when the kernel says no.
 */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { builtPaths, compileCommand } from './installed.js';
import { StillframeError, type ErrorTexts, type FactsOf } from './errors.js';
import type { PollHandle, SocketNative, SpawnNative } from './native-socket.js';
import type { FilesNative } from './native-files.js';

export type { PollHandle };
export type Native = SocketNative & SpawnNative & FilesNative;

/** What is known when each code comes. */
export interface NativeFacts {
  /** Where it was looked for. */
  NATIVE_MISSING: { tried: string[] };
  /** What the kernel lacks, and the first Linux that has it. */
  KERNEL_TOO_OLD: { syscall: string; since: string };
  /** Where to, and which. */
  DESCRIPTOR_NOT_SENT: { socketPath: string; fd: number };
}

export type NativeErrorCode = keyof NativeFacts;

export class NativeError<C extends NativeErrorCode = NativeErrorCode> extends StillframeError<
  C,
  FactsOf<NativeFacts, C>
> {
  override readonly name = 'NativeError';
  constructor(code: C, facts: NativeFacts[C] & { cause?: unknown }) {
    super(code, texts[code](facts), facts);
  }
}

const texts: ErrorTexts<NativeFacts> = {
  NATIVE_MISSING: ({ tried }) => ({
    what: `the native part of stillframe could not be loaded (tried ${tried.join(', ')})`,
    remedy: `Compile it, with gcc and libc's headers at hand: ${compileCommand}. npm 12 and newer want to be told first: npm install-scripts approve stillframe`,
  }),
  KERNEL_TOO_OLD: ({ syscall, since }) => ({
    what: `this kernel has no ${syscall}`,
    remedy: `Use Linux ${since} or newer.`,
  }),
  DESCRIPTOR_NOT_SENT: ({ socketPath, fd }) => ({
    what: `descriptor ${fd} could not be sent to ${socketPath}`,
    remedy:
      'Somebody has to listen there, on a unix socket of type SOCK_STREAM; the descriptor has to be open, and the data not empty.',
  }),
};

function load(): Native {
  const require = createRequire(import.meta.url);
  const tried = builtPaths('stillframe.node');
  let failure: unknown;
  for (const path of tried) {
    if (!existsSync(path)) continue;
    try {
      return require(path) as Native;
    } catch (error) {
      failure = error;
    }
  }
  throw new NativeError('NATIVE_MISSING', { tried, cause: failure });
}

let loaded: Native | undefined;

/** The addon, loaded on first use: importing the library alone never fails for a missing build. */
export function native(): Native {
  return (loaded ??= load());
}
