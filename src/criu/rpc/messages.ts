import * as wire from '../generated/criu.js';
import { bad, externals } from './option-values.js';

/** The RPC requests, by CRIU's own names. */
export type RequestType = Exclude<keyof typeof wire.criu_req_type, 'EMPTY' | 'NOTIFY'>;
export type WireOptions = wire.criu_opts.$Properties;
export type WireFeatures = wire.criu_features.$Properties;

export interface Request {
  type: RequestType;
  opts?: WireOptions;
  features?: WireFeatures;
  keepOpen?: boolean;
  /** WAIT_PID: which child of the worker. */
  pid?: number;
}

/** What CRIU sends: a question in the middle of a request, or the answer that ends it. */
export type Message = Notify | Response;

export interface Notify {
  type: 'NOTIFY';
  script: string;
  pid?: number;
}

export interface Response {
  /** EMPTY: CRIU did not understand the request. */
  type: RequestType | 'EMPTY';
  success: boolean;
  crErrno?: number;
  crErrmsg?: string;
  restoredPid?: number;
  features?: WireFeatures;
  version?: wire.criu_version.$Properties;
  pageServer?: wire.criu_page_server_info.$Properties;
  status?: number;
}

/** These send memory to the page server; elsewhere, and with `lazyPages`, CRIU is the server or has none. */
const toPageServer: ReadonlySet<RequestType> = new Set(['DUMP', 'PRE_DUMP', 'SINGLE_PRE_DUMP']);

/**
 * @throws CriuError BAD_OPTION for a page server that CRIU (4.3 too) would crash over: it looks up the missing
 * address
 */
export function encodeRequest({ type, ...fields }: Request): Uint8Array {
  const { ps, lazyPages } = fields.opts ?? {};
  if (toPageServer.has(type) && ps != null && lazyPages !== true && ps.address == null && ps.fd == null)
    bad('pageServer', `${type} has to know its address, or a socket that is connected to it`);
  return wire.criu_req.encode({ type: wire.criu_req_type[type], ...fields }).finish();
}

/**
 * The answer to a notification; `external` counts for query-ext-files only.
 * @throws CriuError BAD_OPTION when it is not what the option `external` would take
 */
export function encodeNotifyReply(success: boolean, external: readonly string[] = []): Uint8Array {
  const checked = externals('external', external);
  const opts = checked.length === 0 ? {} : { opts: { imagesDirFd: -1, external: checked } };
  return wire.criu_req.encode({ type: wire.criu_req_type.NOTIFY, notifySuccess: success, ...opts }).finish();
}

/** @throws Error when the bytes are no `criu_resp`, or one of a type that does not exist */
export function decodeMessage(data: Uint8Array): Message {
  const resp = wire.criu_resp.decode(data);
  const type = wire.criu_req_type[resp.type] as RequestType | 'NOTIFY' | 'EMPTY' | undefined;
  if (type === undefined) throw new Error(`unknown message type ${String(resp.type)}`);
  if (type === 'NOTIFY') {
    const { script, pid } = resp.notify ?? {};
    if (typeof script !== 'string') throw new Error('a notification without a name');
    return { type, script, ...(typeof pid === 'number' ? { pid } : {}) };
  }
  return {
    type,
    success: resp.success,
    ...present({
      crErrno: resp.crErrno,
      crErrmsg: resp.crErrmsg,
      restoredPid: resp.restore?.pid,
      features: resp.features,
      version: resp.version,
      pageServer: resp.ps,
      status: resp.status,
    }),
  };
}

type Present<T> = { [K in keyof T]?: NonNullable<T[K]> };

/** The object without the fields that are null or undefined: absent on the wire is absent here. */
export function present<T extends object>(fields: T): Present<T> {
  const kept: Present<T> = {};
  for (const name in fields) if (fields[name] != null) kept[name] = fields[name];
  return kept;
}
