/** Options of CRIU as a command takes them: `NAME=VALUE`. */
import { bad, strings } from './option-values.js';
import { isOption } from './option-fields.js';
import type { CriuOptions } from './options.js';

/** Options whose value is a list of words: one word stands for a list of one. */
const lists: readonly string[] = [
  'execCmd',
  'cpuCap',
  'pluginOptions',
  'irmapScanPaths',
  'external',
  'skipMnt',
  'enableFs',
  'emptyNs',
  'cgroupDumpController',
] satisfies (keyof CriuOptions)[];

/**
 * The options that texts such as `tcpClose`, `ghostLimit=1048576`, `external=mnt[/x]:x` or `cgRoot=[{"path":"/x"}]`
 * name: a flag alone is true, a list takes a word at a time, and what is larger is JSON. CRIU's own spelling
 * (`tcp-close`) is taken, too.
 * @throws CriuError BAD_OPTION for a name that there is not; values are checked with the request
 */
export function parseCriuOptions(texts: readonly string[]): CriuOptions {
  const options: Record<string, unknown> = {};
  for (const text of strings('options', texts)) {
    const [, given = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(text) ?? [];
    const name = given.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (!isOption(name)) bad(given, 'there is no such option');
    const parsed = valueOf(value);
    if (!lists.includes(name)) options[name] = parsed;
    else
      options[name] = [
        ...((options[name] as unknown[] | undefined) ?? []),
        ...(Array.isArray(parsed) ? parsed : [value]),
      ];
  }
  return options;
}

function valueOf(text: string | undefined): unknown {
  if (text === undefined) return true;
  if (!/^(?:true|false|\d+|[[{].*)$/s.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text; // a path that begins with a bracket
  }
}
