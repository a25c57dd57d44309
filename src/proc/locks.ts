import { readProc } from './task.js';

/**
 * The processes that hold locks of a kind, those of this pid namespace alone.
 * Source: Documentation/filesystems/proc.rst, /proc/locks; fs/locks.c, lock_get_status, Linux v6.12.
 */
export function lockHolders(kind: 'POSIX' | 'LEASE', type = '\\S+'): Set<number> {
  const lines = (readProc('locks') ?? '').matchAll(new RegExp(`^\\d+: ${kind} +\\S+ +${type} +(\\d+) `, 'gm'));
  return new Set([...lines].map(([, pid]) => Number(pid)));
}
