import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkpoint, PHASE_CHANNEL, WINDOW_CHANNEL, type PhaseEvent, type WindowEvent } from '../../../src/index.js';
import { BusyWriter } from '../../fixtures/busy-writer.js';
import { freezerVersions } from '../../fixtures/cgroup.js';

const version = freezerVersions().at(-1)!;
const documentation = new URL('../../../docs/observability.md', import.meta.url);

describe('what is told of a checkpoint', () => {
  let writer: BusyWriter;
  beforeEach(async () => {
    writer = await BusyWriter.start(version);
  });
  afterEach(() => writer[Symbol.asyncDispose]());
  const options = () => ({
    pid: writer.pid,
    cgroup: writer.cgroup.path,
    files: [{ path: writer.data, name: 'data' }],
    output: writer.path('out.tar'),
  });

  it('is every phase, begun and ended, and the window, to callbacks and on channels alike', async () => {
    const published: unknown[] = [];
    const onMessage = (message: unknown): void => void published.push(message);
    const phases: PhaseEvent[] = [];
    const windows: WindowEvent[] = [];
    subscribe(PHASE_CHANNEL, onMessage);
    subscribe(WINDOW_CHANNEL, onMessage);
    try {
      const { windowMs, phasesMs } = await checkpoint({
        ...options(),
        onProgress: (event) => phases.push(event),
        onWindow: (event) => windows.push(event),
      });
      expect(windows).toEqual([
        { id: phases[0]?.id, pid: writer.pid, cgroup: writer.cgroup.path, windowMs, outcome: 'dumped' },
      ]);
      const at = (when: string): string[] => phases.filter((event) => event.at === when).map(({ phase }) => phase);
      expect(at('start').sort()).toEqual(Object.keys(phasesMs).sort());
      expect(at('end').sort()).toEqual(at('start').sort());
      // In the documentation's order; what it names besides did not come to pass here.
      const [, list = ''] = /The phases of a checkpoint[^:]*: (.*?);/s.exec(readFileSync(documentation, 'utf8')) ?? [];
      const documented = [...list.matchAll(/`([a-z-]+)`/g)].map(([, phase]) => phase);
      expect(at('start')).toEqual(documented.filter((phase) => phase !== 'pre-dump' && phase !== 'callback'));
      expect(published).toHaveLength(phases.length + 1);
      for (const event of [...phases, ...windows]) expect(published).toContain(event);
    } finally {
      unsubscribe(PHASE_CHANNEL, onMessage);
      unsubscribe(WINDOW_CHANNEL, onMessage);
    }
  });

  it('is the window of a failure, too, with its reason and a thaw', async () => {
    const windows: WindowEvent[] = [];
    const thaws: string[] = [];
    const onProgress = ({ phase, at }: PhaseEvent): void => void (phase === 'thaw' && thaws.push(at));
    await expect(
      checkpoint({ ...options(), maxFrozenMs: 1, onProgress, onWindow: (event) => windows.push(event) }),
    ).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    expect(windows).toMatchObject([{ outcome: 'failed', error: { code: 'DEADLINE_EXCEEDED' } }]);
    expect(windows[0]?.windowMs).toBeGreaterThanOrEqual(1);
    expect(thaws).toEqual(['start', 'end']);
  });

  it('fills the histogram of the documentation, given a class of that interface', async () => {
    const code = /```js\n(.*?)```/s.exec(readFileSync(documentation, 'utf8'))?.[1] as string;
    const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
    try {
      const modules = join(dir, 'node_modules');
      mkdirSync(join(modules, 'prom-client'), { recursive: true });
      writeFileSync(join(modules, 'prom-client', 'package.json'), '{"type":"module","exports":"./index.js"}');
      writeFileSync(
        join(modules, 'prom-client', 'index.js'),
        'export class Histogram { seen = []; constructor(options) { Object.assign(this, options); } observe(labels, value) { this.seen.push([labels, value]); } }',
      );
      symlinkSync(fileURLToPath(new URL('../../..', import.meta.url)), join(modules, 'stillframe'));
      writeFileSync(join(dir, 'metrics.mjs'), `${code}\nexport { windows };`);
      const { windows } = (await import(pathToFileURL(join(dir, 'metrics.mjs')).href)) as {
        windows: { labelNames: string[]; seen: [{ outcome: string }, number][] };
      };
      const { windowMs } = await checkpoint(options());
      expect(windows.seen).toEqual([[{ outcome: 'dumped' }, windowMs / 1000]]);
      expect(windows.labelNames).toEqual(Object.keys(windows.seen[0]![0]));
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});
