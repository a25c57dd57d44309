import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { CriuClient } from '../../src/index.js';
import { packageFile, workload } from '../run.js';

/** One client of CRIU's RPC, in a process that lives on as ours does: what was to be loaded has been. */
export interface CriuClientContender {
  name: string;
  /** Starts a CRIU, asks for its VERSION, and ends it. Resolves with the milliseconds it took. */
  ask(): Promise<number>;
  end(): void;
}

/** Where scripts/install-criu-clients.sh puts libcriu and pycriu. */
const prefix = packageFile('.stillframe/clients/usr');

/** Ours first. libcriu and pycriu only where they have been fetched. */
export function criuClients(criuPath: string): CriuClientContender[] {
  const contenders = [
    ours(criuPath),
    child('a client in C', workload('cold-version'), [criuPath]),
    // As ours gives it: a terminal's Ctrl-C does not reach CRIU then.
    child('the same, a session for CRIU', workload('cold-version'), [criuPath, 'session']),
  ];
  if (existsSync(`${prefix}/bin/libcriu-version`)) {
    const python = { PYTHONHOME: prefix, PYTHONPATH: `${prefix}/lib/python3/dist-packages` };
    contenders.push(child('libcriu', `${prefix}/bin/libcriu-version`, [criuPath]));
    contenders.push(
      child('pycriu', `${prefix}/bin/python3`, [packageFile('bench/clients/pycriu-version.py'), criuPath], python),
    );
  }
  return contenders;
}

function ours(criuPath: string): CriuClientContender {
  const ask = async (): Promise<number> => {
    const start = performance.now();
    const client = await CriuClient.start({ criuPath });
    await client.version();
    await client.close();
    return performance.now() - start;
  };
  return { name: 'stillframe', ask, end: () => undefined };
}

/** A program that does it once for each line of its input, and prints the nanoseconds. */
function child(
  name: string,
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): CriuClientContender {
  const { stdin, stdout } = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  const ask = async (): Promise<number> => {
    stdin.write('\n');
    const { value, done } = await lines.next();
    if (done === true) throw new Error(`${name} (${command}) has ended: its last words stand above`);
    return Number(value) / 1e6;
  };
  return { name, ask, end: () => void stdin.end() };
}
