import { open } from 'node:fs/promises';

/** One line of CRIU's log. */
export interface LogLine {
  /** Seconds since CRIU opened the log; absent below log level 3. */
  timeS?: number;
  /** The process of a restored task that wrote it. */
  pid?: number;
  /** Errors and warnings carry their name; info and debug lines look alike. */
  level: 'error' | 'warning' | 'info';
  text: string;
}

// "(00.012345)     57: Error (criu/files-reg.c:2105): File x has bad size": time from log level 3 on, pid on restore.
const line = /^(?:\((\d+\.\d+)\)? ?)?(?: *(\d+): )?(.*)$/;
// CRIU's code inside the tasks puts its own name first: "pie: 57: Error (criu/pie/parasite.c:588): ...".
const error = /^(?:pie: \d+: )?Error(?: \(|$)/;
const warning = /^(?:pie: \d+: )?Warn {2}\(/;

export function parseLogLine(raw: string): LogLine {
  const [, time, pid, text = ''] = line.exec(raw) ?? [];
  const level = error.test(text) ? 'error' : warning.test(text) ? 'warning' : 'info';
  return {
    ...(time === undefined ? {} : { timeS: Number(time) }),
    ...(pid === undefined ? {} : { pid: Number(pid) }),
    level,
    text,
  };
}

/** CRIU logs this as an error where CAP_SYS_RESOURCE is missing, and goes on: criu/util.c, rlimit_unlimit_nofile, v4.2. */
export function isHarmless(text: string): boolean {
  return text.includes("rlimit: Can't setup RLIMIT_NOFILE");
}

// compel/src/lib/infect.c: the one word of why a task could not be stopped.
const reason = /: Unable to interrupt task: /;

/** The texts of the last error lines of a log, oldest first; and the one warning that is the reason of what follows it. */
export function lastErrors(log: string, maxLines = 10): string[] {
  return log
    .split('\n')
    .map(parseLogLine)
    .filter(({ level, text }) => (level === 'error' && !isHarmless(text)) || (level === 'warning' && reason.test(text)))
    .slice(-maxLines)
    .map(({ text }) => withoutNuls(text));
}

/** A message that no longer fits CRIU's early log ends in NULs: criu/log.c, early_vprint, v4.2. */
export function withoutNuls(text: string): string {
  return text.replaceAll('\0', '');
}

/** As `lastErrors`, of the end of a file; `[]` when it cannot be read: an error's details must not make another error. */
export async function readLastErrors(path: string, { maxLines = 10, maxBytes = 256 * 1024 } = {}): Promise<string[]> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    const start = Math.max(0, size - maxBytes);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - start), 0, size - start, start);
    return lastErrors(buffer.toString('utf8', 0, bytesRead), maxLines);
  } catch {
    return [];
  }
}
