// A process to be killed: takes the lock, arms the guardian, does the steps it is told, says "done", and waits.
// argv: a JSON object, see OwnerPlan in owner.ts. It uses what was built, as an embedding program does.
import { spawn } from 'node:child_process';
import { readdirSync, readlinkSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const built = new URL('../../../dist/src/', import.meta.url);
const { lockTarget } = await import(new URL('checkpoint/guardian/lock.js', built));
const { Guardian } = await import(new URL('checkpoint/guardian/guardian.js', built));
const { openFreezer } = await import(new URL('cgroup/index.js', built));
const { readProcess } = await import(new URL('proc/task.js', built));

const plan = JSON.parse(process.argv[2]);
const journal = await lockTarget({ pid: plan.pid, cgroup: plan.cgroup, stateDir: plan.stateDir });
let guardian;
if (plan.guardian !== false)
  guardian = await Guardian.arm({ journal, criuTimeoutMs: plan.criuTimeoutMs, placeGuardianIn: plan.placeGuardianIn });
for (const path of plan.make ?? []) {
  guardian?.willMake(path);
  mkdirSync(join(path, 'images'), { recursive: true });
  writeFileSync(join(path, 'images', 'pages-1.img'), 'memory');
}
if (plan.newCgroup !== undefined) {
  guardian?.willMakeCgroup(plan.newCgroup);
  if (guardian === undefined) journal.update({ newCgroup: plan.newCgroup });
  mkdirSync(plan.newCgroup);
}
if (plan.homes !== undefined)
  guardian.keepHomes(plan.homes.map(({ pid, directory }) => ({ ...readProcess(pid), directory })));
let criu;
if (plan.criu !== undefined) {
  criu = spawn(plan.criu[0], plan.criu.slice(1), { stdio: 'ignore', detached: true });
  guardian.knowCriu(criu.pid);
}
if (plan.leakSocket === true) {
  const sockets = readdirSync('/proc/self/fd').filter((fd) => fd > 2 && isSocket(fd));
  spawn('sleep', ['5'], { stdio: ['ignore', 'ignore', 'ignore', ...sockets.map(Number)], detached: true });
}
if (plan.freeze === true) {
  const freezer = openFreezer({ cgroup: plan.cgroup.path });
  await guardian?.openWindow(freezer.state().selfFrozen);
  if (guardian === undefined) journal.update({ window: 'open', windowSince: new Date().toISOString() });
  await freezer.freeze();
}
console.log(JSON.stringify({ guardian: guardian?.pid, journal: journal.path, criu: criu?.pid }));
setInterval(() => undefined, 1000);

function isSocket(fd) {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
  } catch {
    return false;
  }
}
