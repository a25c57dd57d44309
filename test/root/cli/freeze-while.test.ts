import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { freezerVersions, withCgroup } from '../../fixtures/cgroup.js';
import { endsWithTest } from '../../fixtures/ends-with-test.js';
import { heard, type Heard } from '../../fixtures/heard.js';
import { endChild, spawnCounter, until, type Counter } from '../../fixtures/processes.js';
import { program, stillframe } from '../../fixtures/program.js';
import { TestState } from '../faults/owner.js';

const START_MS = 60_000;

interface Scene {
  cgroup: string;
  counter: Counter;
  state: TestState;
  /** The command's beginning. */
  whilst: string[];
}

async function scene(version: 'v1' | 'v2', play: (scene: Scene) => Promise<void>): Promise<void> {
  using state = endsWithTest(new TestState());
  await withCgroup(version, async (cgroup) => {
    await using counter = await spawnCounter();
    cgroup.add(counter.pid);
    const whilst = ['freeze', '--while', '--pid', String(counter.pid), '--state-dir', state.dir];
    await play({ cgroup: cgroup.path, counter, state, whilst });
    expect(await counter.goesOn()).toBe(true);
    expect(state.journals()).toEqual([]);
  });
}

/** The command, heard while it runs. */
const start = (args: string[]): Heard => heard(process.execPath, [program, ...args], { endMs: 5000 });

describe.each(freezerVersions())('stillframe freeze --while, cgroup %s', (version) => {
  it('runs the command while everything stands still, and passes its output and status on', { timeout: 240_000 }, () =>
    scene(version, async ({ cgroup, counter, whilst, state }) => {
      const script = `a=$(od -An -tu8 -N8 ${counter.file}); sleep 0.3; b=$(od -An -tu8 -N8 ${counter.file})
        [ "$a" = "$b" ] && echo still in $STILLFRAME_CGROUP of $STILLFRAME_PID; exit 7`;
      const done = await stillframe(...whilst, '--max-frozen', '50s', '--', 'sh', '-c', script);
      expect(done).toMatchObject({ status: 7, stdout: `still in ${cgroup} of ${counter.pid}\n` });
      expect(done.stderr).toMatch(new RegExp(`^frozen for [\\d.]+ m?s: 1 process in ${cgroup}\n$`));
      const killed = await stillframe(
        ...['freeze', '--while', '--cgroup', cgroup, '--state-dir', state.dir, '--json'],
        ...['--', 'sh', '-c', 'kill -TERM $$'],
      );
      expect(killed.status).toBe(143);
      expect(JSON.parse(killed.stderr)).toMatchObject({ result: 143, pids: [counter.pid], foundFrozen: false });
    }),
  );

  it('thaws on time, and ends a command that takes too long', { timeout: 240_000 }, () =>
    scene(version, async ({ counter, whilst }) => {
      const { child, ...running } = start([...whilst, '--max-frozen', '1s', '--', 'sleep', '1000']);
      expect(await until(() => child.exitCode !== null, START_MS)).toBe(true);
      expect(child.exitCode).toBe(124);
      expect(running).toBeDefined();
      expect(await counter.goesOn()).toBe(true);
    }),
  );

  it('hands signals on to the command, and thaws when that ends', { timeout: 240_000 }, () =>
    scene(version, async ({ counter, whilst }) => {
      const script =
        "trap 'echo got it; exit 5' USR1; trap 'echo and that' TERM; echo ready; while :; do sleep 0.02; done";
      const running = start([...whilst, '--', 'sh', '-c', script]);
      expect(await until(() => running.said.includes('ready'), START_MS), running.said).toBe(true);
      expect(await counter.standsStill()).toBe(true);
      running.child.kill('SIGTERM');
      expect(await until(() => running.said.includes('and that'))).toBe(true);
      expect(await counter.standsStill()).toBe(true);
      running.child.kill('SIGUSR1');
      expect(await running.ended()).toBe(true);
      expect([running.child.exitCode, running.said.includes('got it')]).toEqual([5, true]);
    }),
  );

  it('leaves nothing frozen when it is killed', { timeout: 240_000 }, () =>
    scene(version, async ({ counter, whilst, state }) => {
      const running = start([...whilst, '--', 'sh', '-c', 'echo $$; exec sleep 1000']);
      expect(await until(() => running.said.includes('\n'), START_MS), running.said).toBe(true);
      expect(await counter.standsStill()).toBe(true);
      running.child.kill('SIGKILL');
      expect(await counter.goesOn()).toBe(true);
      expect(await until(() => state.journals().length === 0, 2000)).toBe(true);
      process.kill(Number.parseInt(running.said, 10), 'SIGKILL');
    }),
  );

  it('freezes nothing for a command that cannot be run, or where it is itself inside', { timeout: 240_000 }, () =>
    scene(version, async ({ cgroup, whilst, state }) => {
      expect(await stillframe(...whilst, '--', 'no-such-command')).toMatchObject({ status: 127 });
      expect(await stillframe(...whilst, '--', '/etc/passwd')).toMatchObject({ status: 126 });
      expect(existsSync(state.dir)).toBe(false);
      const inside = ['-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', cgroup, process.execPath, program, 'freeze'];
      for (const [args, status] of [
        [['--while', '--cgroup', cgroup, '--state-dir', state.dir, '--', 'true'], 125],
        [[cgroup], 1],
      ] as const) {
        const child = spawn('sh', [...inside, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
        endsWithTest({ [Symbol.asyncDispose]: () => endChild(child) });
        let said = '';
        child.stderr.on('data', (data: Buffer) => (said += data.toString()));
        expect(await until(() => child.exitCode !== null, START_MS)).toBe(true);
        expect(await until(() => said.includes('CGROUP_HOLDS_CALLER')), said).toBe(true);
        expect(child.exitCode).toBe(status);
      }
    }),
  );
});

it('stillframe freeze says what it misses, and what needs --while', { timeout: 240_000 }, async () => {
  for (const [args, text] of [
    [['--while', '--', 'true'], 'Specify what to freeze'],
    [['--while', '--pid', '1'], 'Give the command to run'],
    [['--while', '--pid', '1', '--', ''], 'Give the command to run'],
    [['/sys/fs/cgroup/x', 'true'], 'A command to run needs --while'],
    [['--pid', '1', '--max-frozen', '5s'], '--max-frozen cannot be used with freeze without --while'],
  ] as const) {
    const { status, stderr } = await stillframe('freeze', ...args);
    expect(stderr).toContain(text);
    expect(status).toBe(2);
  }
});
