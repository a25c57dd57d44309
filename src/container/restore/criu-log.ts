import { readLastErrors } from '../../criu/index.js';
import type { DroppedSetting } from '../documents/archived-spec.js';
import { ContainerError, type ContainerFacts } from '../model/container-error.js';

/**
 * What CRIU said, where the runtime only says that it failed; and what the container had to do without, which may be
 * why.
 */
export async function withCriuLog(error: unknown, logPath: string, dropped?: DroppedSetting[]): Promise<unknown> {
  if (!(error instanceof ContainerError) || !('stderr' in error.facts)) return error;
  const lines = await readLastErrors(logPath).catch(() => []);
  const { command, status, stderr } = error.facts as ContainerFacts['RUNTIME_FAILED'];
  return new ContainerError('RUNTIME_FAILED', {
    command,
    status,
    stderr: [stderr, ...lines].join('\n'),
    ...(dropped === undefined ? {} : { dropped }),
    cause: error.cause,
  });
}
