import { bad, requirePath } from '../base/check-option.js';

/** How a copy is made. */
export interface CloneOptions {
  /**
   * Its network: the one of this process ('host'), a new one with a loopback interface that is up and nothing else
   * ('own'), or the one at a path, such as /run/netns/NAME. Default 'host'.
   */
  net?: string;
  /** Its host name, in a UTS namespace of its own. Default: the one of this process. */
  hostname?: string;
}

export interface CloneSettings {
  net: string;
  hostname: string | undefined;
}

const NAMES: Readonly<Record<keyof CloneOptions, true>> = { net: true, hostname: true };
/** sethostname(2): __NEW_UTS_LEN. */
const MAX_HOSTNAME_BYTES = 64;

/** @returns undefined where no copy is asked for. @throws CheckpointError BAD_OPTION */
export function checkCloneOptions(value: unknown): CloneSettings | undefined {
  if (value === undefined || value === false) return undefined;
  if (value !== true && (typeof value !== 'object' || value === null || Array.isArray(value)))
    bad('clone', value, 'true, or an object of options');
  const options: CloneOptions = value === true ? {} : (value as CloneOptions);
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(NAMES, name));
  if (unknown !== undefined) bad('clone', options, `no other options than ${Object.keys(NAMES).join(', ')}`);
  const { net = 'host', hostname } = options;
  if (net !== 'host' && net !== 'own') {
    requirePath('net', net);
    if (!net.startsWith('/')) bad('net', net, 'host, own, or the absolute path of a network namespace');
  }
  if (hostname !== undefined) {
    const bytes = typeof hostname === 'string' ? Buffer.byteLength(hostname) : 0;
    if (bytes === 0 || bytes > MAX_HOSTNAME_BYTES || hostname.includes('\0'))
      bad('hostname', hostname, `a name of at most ${MAX_HOSTNAME_BYTES} bytes`);
  }
  return { net, hostname };
}
