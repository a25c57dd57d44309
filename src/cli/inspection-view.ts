/**
 * What `inspect` prints, piece by piece. An archive may have millions of members, and is read once, from its beginning:
 * so the members come first, and what is known only at the end comes last.
 */
import type { Command } from 'commander';
import type { ArchiveInspection, ArchiveMember, ForeignCheckpoint } from '../index.js';
import { JsonList } from './json-list.js';
import { bytes, facts, json, milliseconds } from './output.js';
import { table, TableLines } from './table.js';
import { warningsText } from './warnings.js';

export class JsonView {
  readonly #list = new JsonList('members');

  member(member: ArchiveMember): string {
    return this.#list.item(json(member));
  }

  end(inspection: ArchiveInspection): string {
    const { members: _, ...rest } = inspection;
    return this.#list.end(rest);
  }
}

export class TextView {
  readonly #rows: TableLines | undefined;
  /** For the remedies of warnings. */
  readonly #checkpoint: Command;

  constructor(listMembers: boolean, checkpoint: Command) {
    this.#rows = listMembers ? new TableLines(['type', 'bytes', 'member']) : undefined;
    this.#checkpoint = checkpoint;
  }

  member({ type, bytes, name }: ArchiveMember): string {
    const lines = this.#rows?.add([type, bytes, name]) ?? '';
    return lines === '' ? '' : `${lines}\n`;
  }

  end(inspection: ArchiveInspection): string {
    const summary = `${inspectionText(inspection, this.#checkpoint)}\n`;
    if (this.#rows === undefined) return summary;
    const lines = this.#rows.end();
    return `${lines === '' ? '' : `${lines}\n`}\n${summary}`;
  }
}

/** Everything on one screen: what, made by what, of which size, and what to beware of. */
export function inspectionText(inspection: ArchiveInspection, checkpoint: Command): string {
  const { archivePath, compression, manifest, container, sizes, warnings, memberCount, memberBytes } = inspection;
  const subject = (manifest?.subject ?? {}) as {
    createdAt?: unknown;
    pid?: unknown;
    kernel?: { release?: unknown; arch?: unknown } | null;
    criu?: { version?: unknown } | null;
    cgroup?: { version?: unknown; name?: unknown; members?: unknown } | null;
    windowMs?: unknown;
  };
  const packed = compression === 'none' ? '' : `, ${compression}`;
  const lines: [string, string | number][] = [
    ['archive', archivePath],
    ['members', `${memberCount} (${bytes(memberBytes)}${packed})`],
  ];
  if (sizes.images > 0) lines.push(['images', `${bytes(sizes.images)}, of which memory ${bytes(sizes.memory)}`]);
  if (sizes.rootfsDiff > 0) lines.push(['changed files', `${bytes(sizes.rootfsDiff)} of the container's own`]);
  if (manifest === undefined) lines.push(...foreignLines(container));
  else {
    lines.push(
      ['made by', 'Stillframe'],
      ['made', text(subject.createdAt)],
      // Unknown where the tree was stopped: the archive was complete before.
      ...given(['stood still', typeof subject.windowMs === 'number' ? milliseconds(subject.windowMs) : undefined]),
      ...containerLines(container),
      ['root pid', text(subject.pid)],
      ['processes', Array.isArray(subject.cgroup?.members) ? subject.cgroup.members.length : '?'],
      ['cgroup', `${text(subject.cgroup?.name)} (v${text(subject.cgroup?.version)})`],
      ['kernel', `${text(subject.kernel?.release)} (${text(subject.kernel?.arch)})`],
      ['CRIU', text(subject.criu?.version)],
    );
  }
  const texts = [`${warningsText(warnings, checkpoint)}${facts(lines)}`];
  if (manifest !== undefined && manifest.trees.length > 0) {
    texts.push(
      table(
        ['file tree', 'was at', 'entries', 'bytes', 'sockets left out'],
        manifest.trees.map((t) => [
          showBytes(t.name),
          showBytes(t.source),
          t.entries,
          t.bytes,
          t.skippedSockets.length,
        ]),
      ),
    );
  }
  const excluded = manifest?.trees.filter(({ exclude = [] }) => exclude.length > 0) ?? [];
  if (excluded.length > 0)
    texts.push(
      table(
        ['file tree', 'excluded'],
        excluded.map((t) => [showBytes(t.name), (t.exclude ?? []).map(showBytes).join(', ')]),
      ),
    );
  return texts.join('\n\n');
}

/** What the archive of another engine says of itself. */
function foreignLines(foreign: ForeignCheckpoint | undefined): [string, string][] {
  if (foreign === undefined) return [['manifest', 'none: not written by Stillframe']];
  return [
    ['made by', foreign.engine ?? 'another engine'],
    ...containerLines(foreign),
    ...given(['made', foreign.checkpointedAt]),
    ['manifest', 'none: without hashes, Stillframe can neither verify nor restore it'],
  ];
}

/** Of any engine's container, ours too. */
function containerLines(container: ForeignCheckpoint | undefined): [string, string][] {
  if (container === undefined) return [];
  const { id, name, image, runtime, createdAt, podName, podNamespace, ip, mac } = container;
  return given(
    ['container', [name, id && `(${id})`].filter(Boolean).join(' ')],
    ['image', image],
    ['runtime', runtime],
    ['created', createdAt],
    ['pod', [podNamespace, podName].filter(Boolean).join('/')],
    ['addresses', [...(ip ?? []), ...(mac ?? [])].join(', ')],
  );
}

function given(...lines: [name: string, value: string | undefined][]): [string, string][] {
  return lines.filter((line): line is [string, string] => line[1] !== undefined && line[1] !== '');
}

/** A fact of the manifest, which nobody has checked. */
function text(value: unknown): string | number {
  return typeof value === 'string' || typeof value === 'number' ? value : '?';
}

function showBytes(value: string | { base64: string }): string {
  return typeof value === 'string' ? value : `base64:${value.base64}`;
}
