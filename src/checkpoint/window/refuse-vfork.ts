import { readProc, threadIds, type ProcessInfo } from '../../proc/task.js';
import { CheckpointError } from '../base/checkpoint-error.js';

/**
 * Where a task sleeps that waits for its vfork child: kernel/fork.c, Linux v5.10 to v6.18; before it `_do_fork`. Seen
 * on v1 and v2.
 */
const WAITS_FOR_CHILD = new Set(['kernel_clone', '_do_fork']);

/**
 * A task that waits in vfork (posix_spawn, system, popen) is frozen where it is, and CRIU cannot seize it: it tries for
 * ten seconds, with the tree standing still. So this is looked for when the tree has been frozen, and before CRIU may
 * seize. Where the kernel does not tell where tasks sleep, CRIU's own refusal comes instead.
 * @param tree As `processTree` gives it, of the frozen tree.
 * @throws CheckpointError TARGET_FORKING
 */
export function refuseVfork(tree: readonly ProcessInfo[]): void {
  // Only who has a child can wait for it: of a thousand workers that leaves one to be asked.
  const parents = new Set(tree.map(({ ppid }) => ppid));
  for (const process of tree) {
    if (
      parents.has(process.pid) &&
      threadIds(process).some((tid) => WAITS_FOR_CHILD.has(readProc(`${process.pid}/task/${tid}/wchan`) ?? ''))
    ) {
      throw new CheckpointError('TARGET_FORKING', { pid: process.pid, name: process.name });
    }
  }
}
