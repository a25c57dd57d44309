import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { DEFAULT_PATH, isExecutable } from '../../find-command.js';
import { builtPaths } from '../../installed.js';

/**
 * The `tar` that a CRIU is to find while it dumps (native/criu-tar): it archives a tmpfs without a shell and a gzip,
 * while the tree stands still. Undefined where it has not been built, and where a PATH cannot name it.
 */
export function findHelperTar(): string | undefined {
  return builtPaths('criu-helpers/tar').find((path) => isExecutable(path) && !path.includes(delimiter));
}

/**
 * The environment of a CRIU that dumps: ours, with the directory of the helpers, which has nothing else in it, first on
 * PATH. What the `tar` there does not know it hands to the first other one that an absolute directory of PATH has.
 * Undefined without helpers: the environment is ours then.
 */
export function helperEnvironment(tar = findHelperTar()): NodeJS.ProcessEnv | undefined {
  if (tar === undefined) return undefined;
  const { PATH: path = DEFAULT_PATH } = process.env;
  const other = path
    .split(delimiter)
    .filter(isAbsolute)
    .map((directory) => join(directory, 'tar'))
    .find((name) => name !== tar && isExecutable(name));
  return { ...process.env, PATH: `${dirname(tar)}${delimiter}${path}`, STILLFRAME_TAR: other };
}
