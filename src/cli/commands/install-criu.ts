import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { EXIT_FAILED } from '../exit-status.js';

const script = fileURLToPath(new URL('../../../../scripts/install-criu.sh', import.meta.url));

export function installCriuCommand(): Command {
  return new Command('install-criu')
    .description('Put a CRIU that works on this kernel into a directory of its own; the system stays as it is.')
    .argument('[suite]', 'the Debian or Ubuntu suite to take it from (default: one that suits the kernel)')
    .option('--to <dir>', 'the directory', '/var/lib/stillframe/criu')
    .addHelpText(
      'after',
      '\nStillframe finds it in the default directory by itself; for another one set STILLFRAME_CRIU to the path that is printed.\n' +
        'Needs apt-get and patchelf (Debian, Ubuntu). A directory that was moved is made to work again.\n\nExample:\n  sudo stillframe install-criu',
    )
    .action(async (suite: string | undefined, { to }: { to: string }) => {
      const child = spawn(script, suite === undefined ? [] : [suite], {
        stdio: 'inherit',
        env: { ...process.env, STILLFRAME_CRIU_PREFIX: resolve(to) },
      });
      const [status] = (await once(child, 'close')) as [number | null];
      if (status !== 0) process.exitCode = EXIT_FAILED;
    });
}
