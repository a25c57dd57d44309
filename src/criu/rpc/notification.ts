/** The notifications of CRIU 4.2, in the order of its criu/include/action-scripts.h. */
export const notificationScripts = [
  'pre-stream',
  'pre-dump',
  'post-dump',
  'pre-restore',
  'post-restore',
  'network-lock',
  'network-unlock',
  'setup-namespaces',
  'post-setup-namespaces',
  'post-resume',
  'pre-resume',
  'orphan-pts-master',
  'status-ready',
  'query-ext-files',
] as const;

export type NotificationScript = (typeof notificationScripts)[number];

/** CRIU waits at this point of its work until the callback's promise settles. */
export interface CriuNotification {
  /** A newer CRIU may send a name that is not in the list. */
  script: NotificationScript | (string & {});
  /** The root task's pid, as CRIU's own pid namespace sees it: with `setup-namespaces` and `post-restore`. */
  pid?: number;
  /** `orphan-pts-master`: the terminal's master end. It belongs to the callback, which has to close it. */
  fd?: number;
}

export interface NotificationReply {
  /** `query-ext-files`: more external resources, as in the option `external`. Not read elsewhere. */
  external?: readonly string[];
}

/**
 * Called for each notification, one at a time. When it throws or rejects, CRIU is told no: it undoes its work, and the
 * request rejects with that very error; `criuErrorOf(error)` then gives what CRIU said. A refusal of `network-unlock`,
 * `pre-resume` or `post-resume` comes too late for CRIU: it completes the request, and `criuErrorOf` says CRIU_WENT_ON.
 * `signal` is aborted when the request has been cancelled or timed out meanwhile.
 */
/* eslint-disable @typescript-eslint/no-invalid-void-type -- a callback that returns nothing, async or not, is the common one */
export type OnNotify = (
  notification: CriuNotification,
  signal: AbortSignal,
) => void | NotificationReply | Promise<void | NotificationReply>;
/* eslint-enable @typescript-eslint/no-invalid-void-type */
