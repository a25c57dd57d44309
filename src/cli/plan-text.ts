import type { Command } from 'commander';
import type { CheckpointPlan, ContainerCheckpointPlan } from '../index.js';
import { inFlags } from './flags.js';
import { bytes, facts, leftOutFacts, milliseconds } from './output.js';
import { table } from './table.js';

const MOVES = {
  none: '',
  asked: ': the tree would be moved into a cgroup of its own, and back',
  needed: ': the tree has to be moved into a cgroup of its own (--adopt)',
};

/** What a checkpoint would do, for a person. */
export function planText(plan: CheckpointPlan & Partial<ContainerCheckpointPlan>, command: Command): string {
  const { cgroup, memory, output, images, window, criu, container } = plan;
  const root = plan.processes[0];
  return [
    facts([
      ...(container === undefined ? [] : [['container', `${container.name} (${container.runtime})`] as const]),
      ['root', root === undefined ? String(plan.pid) : `${root.pid} (${root.name})`],
      ['processes', plan.processes.length],
      ['cgroup', cgroup === undefined ? '?' : `${cgroup.path} (v${cgroup.version})${MOVES[cgroup.move]}`],
      ['memory', `${bytes(memory.residentBytes)} in use, about ${bytes(images.neededBytes)} to be written`],
      ['images go to', `${images.path} (${bytes(images.freeBytes)} free)`],
      [
        'archive',
        `about ${bytes(plan.archiveBytes)}${output === undefined ? '' : ` at ${output.path} (${bytes(output.freeBytes)} free)`}`,
      ],
      [
        'frozen window',
        `about ${milliseconds(window.ms)} (${milliseconds(window.fromMs)} to ${milliseconds(window.toMs)})`,
      ],
      ['CRIU', criu === undefined ? '?' : `${criu.version} (${criu.path})`],
      ...leftOutFacts(plan.leftOut ?? []),
    ]),
    table(
      ['pid', 'parent', 'threads', 'memory', 'process'],
      plan.processes.map((p) => [p.pid, p.ppid, p.threads, bytes(p.residentBytes), p.name]),
    ),
    ...(plan.trees.length === 0
      ? ['No files: name those that the program needs with --files.']
      : [
          table(
            ['file tree', 'is at', 'entries', 'bytes', 'changing'],
            plan.trees.map((t) => [
              t.name,
              t.path,
              t.entries,
              t.bytes,
              t.isAlwaysCopied ? 'all copied frozen' : `${t.changed.entries} (${bytes(t.changed.bytes)})`,
            ]),
          ),
        ]),
    window.basis,
    ...plan.refusals.map(({ message, code }) => `would be refused: ${inFlags(message, command)} [${code}]`),
    'Nothing has been touched.',
  ].join('\n\n');
}
