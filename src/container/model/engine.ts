import type { Container } from './container.js';
import type { OciSpec } from './spec.js';

/** What the engine above a runtime knows of a container, as it leaves it in the configuration's annotations. */
export interface EngineFacts {
  engine?: string;
  name?: string;
  createdAt?: string;
  imageName?: string;
  imageId?: string;
  podName?: string;
  podId?: string;
  podNamespace?: string;
  podUid?: string;
  /** The container's name within its pod. */
  containerName?: string;
}

/** For each fact, the annotations that hold it: CRI-O's, containerd's, the kubelet's, Podman's. */
const ANNOTATIONS: { readonly [K in keyof Required<EngineFacts>]: readonly string[] } = {
  engine: ['io.container.manager'],
  name: ['io.kubernetes.cri-o.Name'],
  createdAt: ['io.kubernetes.cri-o.Created'],
  imageName: ['io.kubernetes.cri-o.ImageName', 'io.kubernetes.cri.image-name'],
  imageId: ['io.kubernetes.cri-o.ImageRef'],
  podName: ['io.kubernetes.pod.name', 'io.kubernetes.cri.sandbox-name'],
  podId: ['io.kubernetes.cri-o.SandboxID', 'io.kubernetes.cri.sandbox-id'],
  podNamespace: ['io.kubernetes.pod.namespace', 'io.kubernetes.cri.sandbox-namespace'],
  podUid: ['io.kubernetes.pod.uid', 'io.kubernetes.cri.sandbox-uid'],
  containerName: ['io.kubernetes.container.name', 'io.kubernetes.cri.container-name'],
};

/**
 * Source: CRI-O v1.36, pkg/annotations and internal/factory; containerd v2.1, internal/cri/annotations;
 * Podman v5.8, libpod/define/annotations.go.
 */
export function engineFacts({ annotations = {} }: Pick<OciSpec, 'annotations'>): EngineFacts {
  const facts: EngineFacts = {};
  for (const [fact, keys] of Object.entries(ANNOTATIONS) as [keyof EngineFacts, readonly string[]][]) {
    const value = keys.map((key) => annotations[key]).find((text) => text !== undefined && text !== '');
    if (value !== undefined) facts[fact] = value;
  }
  return facts;
}

export function imageOf({ imageName, imageId }: EngineFacts): Pick<Container, 'image'> {
  return imageName === undefined
    ? {}
    : { image: { name: imageName, ...(imageId === undefined ? {} : { id: imageId }) } };
}
