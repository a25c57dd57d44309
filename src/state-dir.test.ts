import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { recoverCommandFor, STATE_DIR } from './state-dir.js';

it('the command that recovers names the state directory where it is not the usual one', () => {
  expect(recoverCommandFor(STATE_DIR)).toBe('stillframe recover');
  expect(recoverCommandFor('/var/lib/app/state')).toBe('stillframe recover --state-dir /var/lib/app/state');
});

it.each(["/a b/it's", '/x$(reboot)', '/a"b', '/*'])('%s reaches the command as one argument', (dir) => {
  const typed = recoverCommandFor(dir).replace('stillframe', 'printf "%s\\n"');
  expect(execFileSync('sh', ['-c', typed]).toString()).toBe(`recover\n--state-dir\n${dir}\n`);
});
