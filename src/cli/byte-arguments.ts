import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';

/**
 * Node.js puts U+FFFD in the place of each byte that is not UTF-8: such a path would name another file, or none.
 * @param argv As `process.argv`. @throws InvalidArgumentError naming the flag
 */
export function refuseDamagedArguments(argv: readonly string[]): void {
  if (!argv.some((text) => text.includes('\uFFFD'))) return;
  const bytes = argumentsInBytes().slice(-argv.length);
  const at = bytes.findIndex((argument) => !isUtf8(argument));
  if (at === -1) return;
  const flag = [argv[at]?.split('=')[0], argv[at - 1]].find((text) => text?.startsWith('--') === true);
  const what = flag === undefined ? `argument ${at - 1}` : `the value of ${flag}`;
  throw new InvalidArgumentError(
    `${what} is not UTF-8 (${String(argv[at])}), and Node.js does not hand on such bytes. ` +
      'Name it by a path without them, such as that of a directory above, or a symbolic link.',
  );
}

function argumentsInBytes(): Buffer[] {
  const line = readFileSync('/proc/self/cmdline');
  const found: Buffer[] = [];
  for (let at = 0; at < line.length;) {
    const end = line.indexOf(0, at);
    found.push(line.subarray(at, end === -1 ? line.length : end));
    at = (end === -1 ? line.length : end) + 1;
  }
  return found;
}
