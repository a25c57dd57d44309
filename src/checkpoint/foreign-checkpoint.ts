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
  createdAt?: string;
  checkpointedAt?: string;
  /** Of Kubernetes. */
  podName?: string;
  podNamespace?: string;
  /** Its addresses in the network, as far as the engine recorded them. */
  ip?: string[];
  mac?: string[];
  /** The configuration's. Longer ones are cut; at most so many that they fit into 64 KiB together. */
  annotations?: Record<string, string>;
}

type TextFact = Exclude<keyof ForeignCheckpoint, 'ip' | 'mac' | 'annotations'>;

const ENGINES: Readonly<Record<string, string>> = { libpod: 'Podman', 'cri-o': 'CRI-O' };
/** A longer document is not read: these have a few kilobytes. */
const MAX_DOCUMENT_BYTES = 1 << 20;
const MAX_TEXT = 300;

type Json = Record<string, unknown>;

const MAX_ANNOTATION_CHARS = 64 * 1024;
/** As CRI-O v1.36 and containerd v2.1 name them. */
const POD_NAMES = ['io.kubernetes.pod.name', 'io.kubernetes.cri.sandbox-name'];
const POD_NAMESPACES = ['io.kubernetes.pod.namespace', 'io.kubernetes.cri.sandbox-namespace'];

/** Sees the members pass by, and reads the two documents that every engine writes, and Podman's of the network. */
export class ForeignReader {
  #config: Json | undefined;
  #spec: Json | undefined;
  #network: unknown;

  async look({ entry, read }: MemberInTurn): Promise<void> {
    if (entry.type !== 'file' || entry.size > MAX_DOCUMENT_BYTES) return;
    const name = entry.name.toString('latin1');
    if (name === 'config.dump') this.#config = recordOf(await read(MAX_DOCUMENT_BYTES));
    else if (name === 'network.status') this.#network = valueOf(await read(MAX_DOCUMENT_BYTES));
    else if (name === 'spec.dump') this.#spec = recordOf(await read(MAX_DOCUMENT_BYTES));
  }

  /** Undefined where these documents are missing: no engine that is known. */
  found(): ForeignCheckpoint | undefined {
    const [config, spec] = [this.#config, this.#spec];
    if (config === undefined || spec === undefined) return undefined;
    const found: ForeignCheckpoint = {};
    const put = (fact: TextFact, value: unknown): void => {
      if (typeof value === 'string' && value !== '') found[fact] = printable(value.slice(0, MAX_TEXT));
    };
    const annotations = isRecord(spec['annotations']) ? spec['annotations'] : {};
    const first = (names: readonly string[]): unknown => names.map((name) => annotations[name]).find(Boolean);
    put('engine', engineOf(annotations));
    put('id', config['id']);
    put('name', config['name']);
    put('image', config['rootfsImageName']);
    put('runtime', config['runtime']);
    put('createdAt', config['createdTime']);
    put('checkpointedAt', config['checkpointedTime']);
    put('podName', first(POD_NAMES));
    put('podNamespace', first(POD_NAMESPACES));
    const { ip, mac } = addressesIn(this.#network, annotations);
    if (ip.length > 0) found.ip = ip;
    if (mac.length > 0) found.mac = mac;
    const texts = shownAnnotations(annotations);
    if (Object.keys(texts).length > 0) found.annotations = texts;
    return found;
  }
}

function engineOf(annotations: Json): unknown {
  const manager = annotations['io.container.manager'];
  if (typeof manager === 'string') return Object.hasOwn(ENGINES, manager) ? ENGINES[manager] : manager;
  return Object.keys(annotations).some((key) => key.startsWith('io.kubernetes.cri.')) ? 'containerd' : undefined;
}

/**
 * Podman's `network.status` is an object by networks, each with `interfaces`, each with `subnets[].ipnet` and
 * `mac_address`; CRI-O has its addresses in annotations. Source: Podman v5.8, libnetwork/types.StatusBlock.
 */
function addressesIn(network: unknown, annotations: Json): { ip: string[]; mac: string[] } {
  const [ip, mac] = [new Set<string>(), new Set<string>()];
  const add = (to: Set<string>, value: unknown): void => {
    if (typeof value === 'string' && value !== '' && to.size < MAX_ADDRESSES) to.add(printable(value.slice(0, 50)));
  };
  for (const { interfaces } of recordsOf(network))
    for (const { mac_address, subnets } of recordsOf(interfaces)) {
      add(mac, mac_address);
      for (const { ipnet } of recordsOf(subnets)) add(ip, typeof ipnet === 'string' ? ipnet.split('/')[0] : undefined);
    }
  for (const [name, value] of Object.entries(annotations))
    if (name.startsWith('io.kubernetes.cri-o.IP.')) add(ip, value);
  return { ip: [...ip], mac: [...mac] };
}

const MAX_ADDRESSES = 100;

/** An object's or a list's values, those that are objects themselves. */
function recordsOf(value: unknown): Json[] {
  return typeof value === 'object' && value !== null ? Object.values(value).filter(isRecord) : [];
}

function shownAnnotations(annotations: Json): Record<string, string> {
  const shown: [string, string][] = [];
  let room = MAX_ANNOTATION_CHARS;
  for (const [name, value] of Object.entries(annotations)) {
    if (typeof value !== 'string') continue;
    const text = printable(value.slice(0, 4096));
    room -= name.length + text.length;
    if (room < 0) break;
    shown.push([printable(name), text]);
  }
  return Object.fromEntries(shown);
}

function recordOf(bytes: Buffer): Json | undefined {
  const value = valueOf(bytes);
  return isRecord(value) ? value : undefined;
}

function valueOf(bytes: Buffer): unknown {
  try {
    return parseJson(bytes);
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
