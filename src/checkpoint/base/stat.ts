import { readFileSync } from 'node:fs';

/** The fields of a /proc/.../stat that tell who belongs together; undefined when there is no such task. */
export function readStat(path: string): { name: string; state: string; group: number; session: number } | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'latin1');
  } catch {
    return undefined; // gone between the listing and the reading
  }
  // The name is in brackets and may hold any byte, brackets and spaces too.
  const end = text.lastIndexOf(')');
  const [state, , group, session] = text.slice(end + 2).split(' ');
  return {
    name: text.slice(text.indexOf('(') + 1, end),
    state: state ?? '?',
    group: Number(group),
    session: Number(session),
  };
}
