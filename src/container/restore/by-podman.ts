import { join, resolve } from 'node:path';
import type { Warning } from '../../checkpoint/warnings/warning.js';
import { ContainerError, type ContainerFacts } from '../model/container-error.js';
import { run, succeeds } from '../runtimes/command.js';
import { findContainer } from '../runtimes/find-container.js';
import type { ContainerRestorePlan, RestoredContainer } from './plan.js';
import { withCriuLog } from './criu-log.js';
import { warningsOfSecrets } from '../target/left-out.js';

/**
 * Podman reads the archive itself.
 * @throws ContainerError CONTAINER_EXISTS, RUNTIME_MISSING, RUNTIME_FAILED
 */
export async function restorePodman({
  options,
  phases,
  subject,
  env,
  guardian,
  undo,
}: ContainerRestorePlan): Promise<RestoredContainer> {
  const name = options.podman as string;
  const { podmanOptions = [], pod, ignoreVolumes = false, signal } = options;
  const podman = [...podmanOptions, 'container'];
  const isRenamed = name !== subject.container.name;
  // Under its old name it gets its old id, too.
  for (const taken of isRenamed ? [name] : [name, subject.container.id])
    if (await succeeds('podman', [...podman, 'exists', taken]))
      throw new ContainerError('CONTAINER_EXISTS', { runtime: 'podman', id: taken });
  const flags = ['--import', resolve(options.archive), '--file-locks'];
  if (isRenamed) flags.push('--name', name);
  if (pod !== undefined) flags.push('--pod', pod);
  if (ignoreVolumes) flags.push('--ignore-volumes');
  if (subject.tcpEstablished) flags.push('--tcp-established');
  // It leaves a container behind that it could not bring to life.
  undo.push(async () => void (await succeeds('podman', [...podman, 'rm', '--force', name])));
  await phases.run('restore', () =>
    run('podman', [...podman, 'restore', ...flags], {
      env,
      signal,
      onStarted: (pid) => guardian.knowCriu(pid),
    }).catch(async (error: unknown) => {
      throw await withPodmansLog(error, name, podman, warningsOfSecrets(subject.container.leftOut ?? [])[0]);
    }),
  );
  return { container: await findContainer({ podman: name, podmanOptions }), dropped: [], hostMounts: [] };
}

/** CRIU's log is in the container's directory. */
async function withPodmansLog(
  error: unknown,
  name: string,
  podman: readonly string[],
  warning: Warning | undefined,
): Promise<unknown> {
  const { stdout } = await run('podman', [...podman, 'inspect', '--format', '{{.StaticDir}}', name]).catch(() => ({
    stdout: '',
  }));
  const told = stdout.trim() === '' ? error : await withCriuLog(error, join(stdout.trim(), 'restore.log'));
  if (warning === undefined || !(told instanceof ContainerError) || told.code !== 'RUNTIME_FAILED') return told;
  const facts = told.facts as ContainerFacts['RUNTIME_FAILED'];
  return new ContainerError('RUNTIME_FAILED', { ...facts, warning, cause: told.cause });
}
