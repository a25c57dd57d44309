import { existsSync } from 'node:fs';
import { kernelIsFrom } from '../proc/kernel.js';
import { isVirtualMachine } from '../proc/virtual-machine.js';

/** What there is of this machine that a CRIU before 4.2 does not get on with. */
export interface Machine {
  hasUdpLite: boolean;
  isFrom616: boolean;
  /** The flag that x86 processors have in a virtual machine. */
  isVirtual: boolean;
}

export function thisMachine(): Machine {
  return {
    hasUdpLite: existsSync('/proc/net/udplite'),
    isFrom616: kernelIsFrom(6, 16),
    isVirtual: isVirtualMachine(),
  };
}

/**
 * What CRIU before 4.2 does not do here, and the remedies besides a newer one. Seen with 4.1.1 on Linux 6.18 and 7.2;
 * the errors of the first two say so too (criu/errors/known-failures.ts). Of the third there is no error: it waits for
 * ever at the end of a dump. 4.2 tries breakpoints out first (criu/kerndat.c, kerndat_has_breakpoints) and does without
 * them, as CRIU_FAULT=130 has an older one do (criu/process/breakpoints.ts).
 */
export function beforeCriu42({ hasUdpLite, isFrom616, isVirtual }: Machine): { what: string; remedy: string }[] {
  const found: { what: string; remedy: string }[] = [];
  if (!hasUdpLite)
    found.push({
      what: 'refuses trees that have a network namespace of their own or a TCP or UDP socket: it knows no kernel without UDP-Lite',
      remedy: '',
    });
  else if (isFrom616)
    found.push({
      what: 'refuses trees that have a TCP or UDP socket: it asks for options that Linux 6.16 and newer have for unix sockets only',
      remedy: '',
    });
  if (isVirtual)
    found.push({
      what: 'never ends a dump if this virtual machine has no hardware breakpoints: Stillframe starts it with CRIU_FAULT=130, so that it does without',
      remedy:
        'Until then, set CRIU_FAULT=130 in the environment of whatever else starts it, such as a container runtime.',
    });
  return found;
}
