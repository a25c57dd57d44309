import { parseJson, readVerifiedMember, type VerifiedArchive } from '../../archive/index.js';
import { recordedOrigin, shown, type Subject } from '../../checkpoint/base/recorded-target.js';
import { ContainerError } from '../model/container-error.js';
import type { OciSpec } from '../model/spec.js';
import type { ContainerSubject } from '../target/container-target.js';
import { members } from './documents.js';

const MAX_SPEC_BYTES = 16 * 1024 * 1024;

export type RecordedContainer = ContainerSubject &
  Pick<Subject, 'createdAt' | 'kernel' | 'criu'> & { cgroupVersion: 1 | 2; tcpEstablished: boolean };

/**
 * What the manifest says of a container, checked field by field: an archive may come from anywhere.
 * @throws ContainerError NOT_A_CONTAINER_CHECKPOINT
 */
export function recordedContainer({ manifest, archive }: VerifiedArchive): RecordedContainer {
  const wrong = (what: string): ContainerError =>
    new ContainerError('NOT_A_CONTAINER_CHECKPOINT', { archivePath: archive.path, what });
  const { kind, container, criuOptions } = manifest.subject;
  if (kind !== 'container') throw wrong(`its kind is ${shown(kind)}`);
  if (!isRecord(container) || !isRuntime(container['runtime']) || !areTexts(container, ['ociRuntime', 'id', 'name']))
    throw wrong('it names no container');
  const { image, leftOut = [], whiteouts = false, wholeRootfs = false } = container;
  if (typeof wholeRootfs !== 'boolean') throw wrong('it does not say whether it holds the whole root file system');
  if (typeof whiteouts !== 'boolean') throw wrong('it does not say whether it has whiteouts');
  if (
    !Array.isArray(leftOut) ||
    !leftOut.every((mount) => isRecord(mount) && areTexts(mount, ['source', 'destination']))
  )
    throw wrong('its list of what was left out is damaged');
  if (image !== undefined && (!isRecord(image) || typeof image['name'] !== 'string' || !isOptionalText(image['id'])))
    throw wrong('it names no image');
  const { createdAt, kernel, criu, cgroup } = recordedOrigin(manifest.subject, wrong);
  if (!isRecord(cgroup) || (cgroup['version'] !== 1 && cgroup['version'] !== 2)) throw wrong('it names no cgroup');
  if (!isRecord(criuOptions)) throw wrong('it names no options of CRIU');
  return {
    ...({ kind, container } as unknown as ContainerSubject),
    createdAt,
    kernel,
    criu,
    cgroupVersion: cgroup['version'],
    tcpEstablished: criuOptions['tcpEstablished'] === true,
  };
}

/**
 * The configuration that the archive has.
 * @throws ContainerError NOT_A_CONTAINER_CHECKPOINT
 */
export async function recordedSpec(verified: VerifiedArchive): Promise<OciSpec> {
  const wrong = (cause?: unknown): ContainerError =>
    new ContainerError('NOT_A_CONTAINER_CHECKPOINT', {
      archivePath: verified.archive.path,
      what: `its ${members.spec} is no configuration of a container`,
      cause,
    });
  let spec: unknown;
  try {
    spec = parseJson(await readVerifiedMember(verified, members.spec, MAX_SPEC_BYTES));
  } catch (cause) {
    throw wrong(cause);
  }
  const { annotations = {} } = isRecord(spec) ? spec : { annotations: undefined };
  if (
    !isRecord(spec) ||
    !isRecord(annotations) ||
    !Object.values(annotations).every((text) => typeof text === 'string')
  )
    throw wrong();
  return spec as OciSpec;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isRuntime(value: unknown): boolean {
  return value === 'runc' || value === 'crun' || value === 'podman';
}

function areTexts(record: Record<string, unknown>, names: readonly string[]): boolean {
  return names.every((name) => typeof record[name] === 'string');
}

function isOptionalText(value: unknown): boolean {
  return value === undefined || typeof value === 'string';
}
