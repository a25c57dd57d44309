import { readFileSync } from 'node:fs';
import { readProcess } from './task.js';

/** One process for good: a later process with the same pid has another start time. */
export interface ProcessId {
  pid: number;
  /** In clock ticks since boot, in decimal. */
  startTime: string;
}

/** `undefined` when there is no such process. */
export function identify(pid: number): ProcessId | undefined {
  const info = readProcess(pid);
  return info === undefined ? undefined : { pid, startTime: String(info.startTime) };
}

/** Still that process, and no zombie: a zombie does nothing any more. */
export function isRunning({ pid, startTime }: ProcessId): boolean {
  const info = readProcess(pid);
  return info !== undefined && String(info.startTime) === startTime && info.state !== 'Z' && info.state !== 'X';
}

/** Which boot this is: without it a pid and its start time name no process. */
export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
}
