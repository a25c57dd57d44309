import type { Command } from 'commander';

type Make = (signal: AbortSignal) => Command;

/**
 * Every command, in the order of the help, each in a module of its own: what is not asked for is not loaded, and none
 * of them loads the library before it acts.
 */
const MAKERS: Readonly<Record<string, () => Promise<Make>>> = {
  checkpoint: async () => (await import('./checkpoint.js')).checkpointCommand,
  restore: async () => (await import('./restore.js')).restoreCommand,
  prepare: async () => (await import('./prepare.js')).prepareCommand,
  run: async () => (await import('./run.js')).runCommand,
  ps: async () => (await import('./ps.js')).psCommand,
  list: async () => (await import('./list.js')).listCommand,
  pod: async () => (await import('./pod.js')).podCommand,
  image: async () => (await import('./image.js')).imageCommand,
  freeze: async () => (await import('./freezer.js')).freezeCommand,
  thaw: async () => (await import('./freezer.js')).thawCommand,
  status: async () => (await import('./freezer.js')).statusCommand,
  inspect: async () => (await import('./inspect.js')).inspectCommand,
  verify: async () => (await import('./inspect.js')).verifyCommand,
  recover: async () => (await import('./recover.js')).recoverCommand,
  doctor: async () => (await import('./doctor.js')).doctorCommand,
  'install-criu': async () => (await import('./install-criu.js')).installCriuCommand,
  completion: async () => (await import('./completion.js')).completionCommand,
};

/** The command that the first word names; all of them where it names none. */
export async function commandsFor(word: string | undefined, signal: AbortSignal): Promise<Command[]> {
  const wanted = word !== undefined && Object.hasOwn(MAKERS, word) ? [MAKERS[word]!] : Object.values(MAKERS);
  return Promise.all(wanted.map(async (load) => (await load())(signal)));
}
