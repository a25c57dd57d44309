/**
 * The one door to the addon in native/. The addon holds mechanisms only: a function is one syscall (or
 * one loop of them off the event loop); it takes numbers and buffers, and throws an errno error
 * (`code`, `errno`, `syscall`) when the kernel says no.
 */
import { createRequire } from 'node:module';
import { existsSync } from 'node:fs';
import { builtPaths, compileCommand } from './installed.js';
import { StillframeError, type ErrorTexts } from './errors.js';
import type { PollHandle, SocketNative, SpawnNative } from './native-socket.js';
import type { FilesNative } from './native-files.js';

export type { PollHandle };
export type Native = SocketNative & SpawnNative & FilesNative;

export type NativeErrorCode = 'NATIVE_MISSING' | 'KERNEL_TOO_OLD' | 'DESCRIPTOR_NOT_SENT';

export interface NativeFacts {
  /** NATIVE_MISSING: where it was looked for. */
  tried?: string[];
  /** KERNEL_TOO_OLD: what it lacks, and the first Linux that has it. */
  syscall?: string;
  since?: string;
  /** DESCRIPTOR_NOT_SENT: where to, and which. */
  socketPath?: string;
  fd?: number;
}

export class NativeError extends StillframeError<NativeErrorCode, NativeFacts> {
  override readonly name = 'NativeError';
  constructor(code: NativeErrorCode, facts: NativeFacts & { cause?: unknown }) {
    super(code, texts[code](facts), facts);
  }
}

const texts: ErrorTexts<NativeErrorCode, NativeFacts> = {
  NATIVE_MISSING: ({ tried = [] }) => ({
    what: `the native part of stillframe could not be loaded (tried ${tried.join(', ')})`,
    remedy: `Compile it, with gcc and libc's headers at hand: ${compileCommand}. npm 12 and newer want to be told first: npm install-scripts approve stillframe`,
  }),
  KERNEL_TOO_OLD: ({ syscall, since }) => ({
    what: `this kernel has no ${syscall}`,
    remedy: `Use Linux ${since} or newer.`,
  }),
  DESCRIPTOR_NOT_SENT: ({ socketPath, fd }) => ({
    what: `descriptor ${String(fd)} could not be sent to ${socketPath}`,
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
