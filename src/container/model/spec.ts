import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { ContainerError } from './container-error.js';

/**
 * The part of an OCI runtime configuration that a checkpoint needs; the rest is kept as it is.
 * Source: opencontainers/runtime-spec, config.md and config-linux.md, v1.2.
 */
export interface OciSpec {
  ociVersion?: string;
  root?: { path?: string; readonly?: boolean };
  mounts?: SpecMount[];
  annotations?: Record<string, string>;
  linux?: {
    namespaces?: SpecNamespace[];
    devices?: { path: string }[];
    maskedPaths?: string[];
    cgroupsPath?: string;
  };
  [other: string]: unknown;
}

export interface SpecMount {
  destination: string;
  type?: string;
  source?: string;
  options?: string[];
}

export interface SpecNamespace {
  type: 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup' | 'time';
  /** Absent: the container has its own. */
  path?: string;
}

/**
 * Reads BUNDLE/config.json.
 * @throws ContainerError BUNDLE_UNREADABLE
 */
export async function readSpec(bundle: string): Promise<OciSpec> {
  const path = join(bundle, 'config.json');
  try {
    const spec: unknown = JSON.parse(await readFile(path, 'utf8'));
    if (typeof spec !== 'object' || spec === null || Array.isArray(spec)) throw new Error('not a JSON object');
    return spec as OciSpec;
  } catch (cause) {
    throw new ContainerError('BUNDLE_UNREADABLE', { path, cause });
  }
}

/** A bind mount as the runtimes tell them: by its type, or by its options with any type. */
export function isBindMount({ type, options = [] }: SpecMount): boolean {
  return type === 'bind' || options.includes('bind') || options.includes('rbind');
}

/** The namespace of a kind, or undefined when the container shares its host's. */
export function namespaceOf(spec: OciSpec, type: SpecNamespace['type']): SpecNamespace | undefined {
  return spec.linux?.namespaces?.find((namespace) => namespace.type === type);
}

/** The root file system's directory: absolute, or relative to the bundle. */
export function rootfsOf(spec: OciSpec, bundle: string): string {
  return resolve(bundle, spec.root?.path ?? 'rootfs');
}
