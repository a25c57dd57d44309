/** Where journals and locks are unless `stateDir` (`--state-dir`) says otherwise. */
export const STATE_DIR = '/run/stillframe';

/** How a person cleans up what is recorded in a state directory: a command to type. */
export function recoverCommandFor(stateDir: string): string {
  return `stillframe recover${stateDirFlag(stateDir)}`;
}

/** With a space before it; '' for the usual directory. */
export function stateDirFlag(stateDir: string): string {
  return stateDir === STATE_DIR ? '' : ` --state-dir ${shellWord(stateDir)}`;
}

function shellWord(text: string): string {
  return /^[\w/.@%+:,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
