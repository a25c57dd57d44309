/**
 * What another engine's checkpoint of a container says of itself.
 * Source: checkpointctl v1.5, lib/metadata.go and internal/container.go (ContainerConfig, io.container.manager).
 */
import { parseJson, printable, type MemberInTurn } from '../archive/index.js';

/** Nothing of it is proven. All of it is text for people: control characters are shown as `\xNN`. */
export interface ForeignCheckpoint {
  /** Which engine the container belonged to: `Podman`, `CRI-O`, `containerd`, or what it calls itself. */
  engine?: string;
  id?: string;
  name?: string;
  image?: string;
  /** The OCI runtime. */
  runtime?: string;
  /** ISO 8601. */
  checkpointedAt?: string;
}

const ENGINES: Readonly<Record<string, string>> = { libpod: 'Podman', 'cri-o': 'CRI-O' };
/** A longer document is not read: these have a few kilobytes. */
const MAX_DOCUMENT_BYTES = 1 << 20;
const MAX_TEXT = 300;

type Json = Record<string, unknown>;

/** Sees the members pass by, and reads the two documents that every engine writes. */
export class ForeignReader {
  #config: Json | undefined;
  #spec: Json | undefined;

  async look({ entry, read }: MemberInTurn): Promise<void> {
    if (entry.type !== 'file' || entry.size > MAX_DOCUMENT_BYTES) return;
    const name = entry.name.toString('latin1');
    if (name === 'config.dump') this.#config = recordOf(await read(MAX_DOCUMENT_BYTES));
    else if (name === 'spec.dump') this.#spec = recordOf(await read(MAX_DOCUMENT_BYTES));
  }

  /** Undefined where these documents are missing: no engine that is known. */
  found(): ForeignCheckpoint | undefined {
    const [config, spec] = [this.#config, this.#spec];
    if (config === undefined || spec === undefined) return undefined;
    const found: ForeignCheckpoint = {};
    const put = (fact: keyof ForeignCheckpoint, value: unknown): void => {
      if (typeof value === 'string' && value !== '') found[fact] = printable(value.slice(0, MAX_TEXT));
    };
    put('engine', engineOf(isRecord(spec['annotations']) ? spec['annotations'] : {}));
    put('id', config['id']);
    put('name', config['name']);
    put('image', config['rootfsImageName']);
    put('runtime', config['runtime']);
    put('checkpointedAt', config['checkpointedTime']);
    return found;
  }
}

function engineOf(annotations: Json): unknown {
  const manager = annotations['io.container.manager'];
  if (typeof manager === 'string') return Object.hasOwn(ENGINES, manager) ? ENGINES[manager] : manager;
  return Object.keys(annotations).some((key) => key.startsWith('io.kubernetes.cri.')) ? 'containerd' : undefined;
}

function recordOf(bytes: Buffer): Json | undefined {
  try {
    const value = parseJson(bytes);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
