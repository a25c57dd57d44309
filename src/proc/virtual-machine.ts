import { readFileSync } from 'node:fs';

/** By the flag that x86 processors have in a virtual machine. */
export function isVirtualMachine(): boolean {
  return /^flags\s*:.*\bhypervisor\b/m.test(readFileSync('/proc/cpuinfo', 'latin1'));
}
