/**
 * The configuration that an archive brings along (spec.dump), for a bundle that has none: made anew of what is known to
 * concern the container alone. What reaches out to this machine is dropped, unless the caller asks for it, and named.
 *
 * It is made of known keys, in this very spelling, and not cleared of bad ones: Go's JSON takes `Hooks` and `hooK`,
 * with the Kelvin sign, for `hooks`.
 * Source: opencontainers/runtime-spec v1.2, config.md and config-linux.md.
 */
import { printable } from '../../archive/index.js';
import { ContainerError } from '../model/container-error.js';
import { isBindMount, type SpecMount } from '../model/spec.js';
import { members, type RecordedBindMount } from './documents.js';
import { parseLossless } from './lossless-json.js';

/** What an archive's configuration can ask of the machine that it is restored on. */
export const HOST_SETTINGS = ['hooks', 'mounts', 'devices', 'namespaces', 'runtime'] as const;

/**
 * - `hooks`: programs that the runtime starts on this machine, as root
 * - `mounts`: directories and devices of this machine, other than the bind mounts that the archive lists (bind.mounts)
 * - `devices`: devices and network devices of this machine, and the right to open them
 * - `namespaces`: namespaces of this machine, by path
 * - `runtime`: annotations other than those that only describe the container, since runtimes and CRIU are configured by
 *   annotations, and the cgroup's place
 */
export type HostSetting = (typeof HOST_SETTINGS)[number];

export interface DroppedSetting {
  /** By which name it can be kept; undefined for what is not known, and never kept. */
  setting: HostSetting | undefined;
  /** What it was, in a few words. */
  what: string;
}

interface Choice {
  archivePath: string;
  /** The bind mounts that the archive lists. */
  bindMounts: readonly Pick<RecordedBindMount, 'source' | 'destination'>[];
  keep: readonly HostSetting[];
}

type Json = Record<string, unknown>;

const TOP = ['ociVersion', 'process', 'root', 'hostname', 'domainname', 'mounts', 'annotations', 'linux', 'hooks'];
const LINUX = [
  'uidMappings',
  'gidMappings',
  'timeOffsets',
  'namespaces',
  'devices',
  'netDevices',
  'cgroupsPath',
  'resources',
  'rootfsPropagation',
  'seccomp',
  'sysctl',
  'maskedPaths',
  'readonlyPaths',
  'mountLabel',
  'personality',
];
const RESOURCES = ['devices', 'memory', 'cpu', 'pids', 'blockIO', 'hugepageLimits', 'network', 'rdma', 'unified'];
const SECCOMP = ['defaultAction', 'defaultErrnoRet', 'architectures', 'flags', 'syscalls'];
const MOUNT = ['destination', 'type', 'source', 'options', 'uidMappings', 'gidMappings'];
const NAMESPACE = ['type', 'path'];

/** File systems that are the container's own, and have no source on the machine. */
const OWN_MOUNTS = new Set(['proc', 'sysfs', 'tmpfs', 'devpts', 'mqueue', 'cgroup', 'cgroup2']);

/**
 * Annotations by which engines say what a container is to them. All others are dropped, whether a runtime is known to
 * act upon them or not: each release can act upon new ones. (crun 1.21 took `run.oci.*`, `module.wasm.image/variant`
 * and `io.kubernetes.cri.container-type`; 1.29 takes `krun.*` and `org.criu.*` as well.) No engine misses them: it
 * restores from a configuration that it makes itself, and never from this one.
 * Source: what the runtimes act upon: runc v1.1.5 to v1.5.1, features.go (PotentiallyUnsafeConfigAnnotations: `bundle`,
 * `org.criu.config`, `org.systemd.property.*`); crun 1.29.1, src/libcrun/container.c (potentially_unsafe_annotations)
 * and cgroup-systemd.c (`org.systemd.property.*`).
 */
const DESCRIBING = [
  'io.container.manager',
  'io.kubernetes.container.',
  'io.kubernetes.cri-o.',
  'io.kubernetes.cri.',
  'io.kubernetes.pod.',
  'io.podman.annotations.',
  'org.opencontainers.image.',
];
/** Of those: what crun chooses a handler by, and the path of a file that we would put into the next checkpoint. */
const ACTING = new Set<string>(['io.kubernetes.cri.container-type', members.criLog]);

/**
 * The devices that each runtime gives to each container, by type, major and minor: null, zero, full, random, urandom,
 * tty, console, ptmx.
 */
const USUAL = new Set(['c 1:3', 'c 1:5', 'c 1:7', 'c 1:8', 'c 1:9', 'c 5:0', 'c 5:1', 'c 5:2']);

export interface AdaptedSpec {
  text: string;
  dropped: DroppedSetting[];
  /** The bind mounts that are taken over, because the archive lists them: the archive alone says which. */
  hostMounts: { source: string; destination: string }[];
}

/**
 * The text of a config.json with the bundle's `rootfs` as its root, and what was left out of it.
 * @throws ContainerError NOT_A_CONTAINER_CHECKPOINT
 */
export function adaptArchivedSpec(text: string, choice: Choice): AdaptedSpec {
  const { archivePath } = choice;
  const wrong = (cause?: unknown): ContainerError =>
    new ContainerError('NOT_A_CONTAINER_CHECKPOINT', {
      archivePath,
      what: 'its spec.dump is no OCI configuration',
      cause,
    });
  try {
    const json = parseLossless(text);
    if (!isJson(json.value)) throw wrong();
    const adaptation = new Adaptation(choice);
    const adapted = `${json.encode(adaptation.spec(json.value))}\n`;
    return { text: adapted, dropped: adaptation.dropped, hostMounts: adaptation.hostMounts };
  } catch (error) {
    if (error instanceof ContainerError) throw error;
    throw wrong(error);
  }
}

class Adaptation {
  readonly dropped: DroppedSetting[] = [];
  readonly hostMounts: AdaptedSpec['hostMounts'] = [];
  readonly #keep: ReadonlySet<HostSetting>;
  readonly #bindMounts: ReadonlySet<string>;

  constructor({ keep, bindMounts }: Choice) {
    this.#keep = new Set(keep);
    this.#bindMounts = new Set(bindMounts.map(({ source, destination }) => JSON.stringify([source, destination])));
  }

  spec(given: Json): Json {
    const spec = this.#known(given, TOP, '');
    spec['root'] = { path: 'rootfs', ...(jsonAt(spec, 'root')['readonly'] === true ? { readonly: true } : {}) };
    if ('hooks' in spec && !this.#keeps('hooks', hookNames(spec['hooks']))) delete spec['hooks'];
    if ('mounts' in spec) spec['mounts'] = this.#mounts(list(spec['mounts']));
    if ('annotations' in spec) spec['annotations'] = this.#annotations(jsonAt(spec, 'annotations'));
    if ('linux' in spec) spec['linux'] = this.#linux(jsonAt(spec, 'linux'));
    return spec;
  }

  #linux(given: Json): Json {
    const linux = this.#known(given, LINUX, 'linux.');
    if ('namespaces' in linux)
      linux['namespaces'] = list(linux['namespaces']).map((namespace) => this.#namespace(namespace));
    if ('devices' in linux) linux['devices'] = list(linux['devices']).filter((device) => this.#device(device));
    if ('netDevices' in linux && !this.#keeps('devices', Object.keys(jsonAt(linux, 'netDevices'))))
      delete linux['netDevices'];
    if ('cgroupsPath' in linux && !this.#keeps('runtime', [`cgroupsPath ${String(linux['cgroupsPath'])}`]))
      delete linux['cgroupsPath'];
    if ('seccomp' in linux) linux['seccomp'] = this.#known(jsonAt(linux, 'seccomp'), SECCOMP, 'linux.seccomp.');
    const resources = this.#known(jsonAt(linux, 'resources'), RESOURCES, 'linux.resources.');
    linux['resources'] = { ...resources, devices: this.#deviceRules(list(resources['devices'] ?? [])) };
    return linux;
  }

  #mounts(mounts: Json[]): Json[] {
    return mounts
      .map((mount) => this.#known(mount, MOUNT, 'mounts[].'))
      .filter((mount) => {
        const { destination, source, type, options } = mount as Partial<SpecMount>;
        if (typeof destination !== 'string') throw new TypeError('a mount without a destination');
        if (options !== undefined && !isTexts(options))
          throw new TypeError('the options of a mount are no list of texts');
        const isOwn = !isBindMount(mount as unknown as SpecMount) && OWN_MOUNTS.has(type ?? '');
        const isListed = this.#bindMounts.has(JSON.stringify([source, destination]));
        if (isOwn) return true;
        if (isListed && isBindMount(mount as unknown as SpecMount)) {
          this.hostMounts.push({ source: String(source), destination });
          return true;
        }
        return this.#keeps('mounts', [`${String(source ?? type)} on ${destination}`]);
      });
  }

  #annotations(annotations: Json): Json {
    return Object.fromEntries(
      Object.entries(annotations).filter(
        ([name]) =>
          (DESCRIBING.some((prefix) => name.startsWith(prefix)) && !ACTING.has(name)) ||
          this.#keeps('runtime', [`annotation ${name}`]),
      ),
    );
  }

  /** A namespace of that kind is the container's own then. */
  #namespace(given: Json): Json {
    const namespace = this.#known(given, NAMESPACE, 'linux.namespaces[].');
    const { type, path } = namespace;
    if (path === undefined || path === '' || this.#keeps('namespaces', [`${String(type)} ${String(path)}`]))
      return namespace;
    return { type };
  }

  #device(device: Json): boolean {
    return USUAL.has(nameOf(device)) || this.#keeps('devices', [`${String(device['path'])} (${nameOf(device)})`]);
  }

  /** Which devices may be opened: none but those that the runtime adds, where the archive's rules are not kept. */
  #deviceRules(rules: Json[]): Json[] {
    const allowed = rules.filter(({ allow, access }) => allow === true && access !== 'm');
    const beyond = allowed.filter((rule) => !USUAL.has(nameOf(rule)) && nameOf(rule) !== 'c 136:*');
    if (
      beyond.length > 0 &&
      this.#keeps(
        'devices',
        beyond.map((rule) => `access to ${nameOf(rule)}`),
      )
    )
      return rules;
    return [{ allow: false, access: 'rwm' }];
  }

  #known(given: Json, keys: readonly string[], prefix: string): Json {
    const known: Json = {};
    for (const [key, value] of Object.entries(given)) {
      if (keys.includes(key)) known[key] = value;
      else this.dropped.push({ setting: undefined, what: printable(`${prefix}${key}`) });
    }
    return known;
  }

  /** Whether the caller wants these; when not, they are told of as dropped. */
  #keeps(setting: HostSetting, what: readonly string[]): boolean {
    if (this.#keep.has(setting)) return true;
    this.dropped.push(...what.map((one) => ({ setting, what: printable(one) })));
    return false;
  }
}

function hookNames(hooks: unknown): string[] {
  if (!isJson(hooks)) throw new TypeError('hooks are no object');
  return Object.entries(hooks).flatMap(([stage, of]) => list(of).map((hook) => `${stage} ${String(hook['path'])}`));
}

/** As the kernel's device controller writes it. */
function nameOf({ type, major, minor }: Json): string {
  const number = (value: unknown): string => (value === undefined || value === -1 ? '*' : String(value));
  return `${String(type ?? 'a')} ${number(major)}:${number(minor)}`;
}

function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isTexts(value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function jsonAt(json: Json, key: string): Json {
  const value = json[key] ?? {};
  if (!isJson(value)) throw new TypeError(`${key} is no object`);
  return value;
}

function list(value: unknown): Json[] {
  if (!Array.isArray(value) || !value.every(isJson)) throw new TypeError('a list of objects was expected');
  return value as Json[];
}
