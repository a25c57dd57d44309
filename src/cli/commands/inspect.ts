import { Command } from 'commander';
import { inspect, verify, type ForeignCheckpoint } from '../../index.js';
import { byteCount } from '../arguments.js';
import { archiveOf } from '../standard-input.js';
import { bytes, facts, json, table, print } from '../output.js';
import { warningsText } from '../warnings.js';
import { checkpointCommand } from './checkpoint.js';

export function inspectCommand(signal: AbortSignal): Command {
  return new Command('inspect')
    .description('Show what an archive contains, without verifying it.')
    .argument('<archive>', 'a path; - for the standard input')
    .option('--members', 'list every member')
    .option('--max-unpacked-bytes <size>', 'size limit of a compressed archive or a stream (default: 1 TiB)', byteCount)
    .option('--json', 'print everything as JSON')
    .addHelpText(
      'after',
      '\nNothing is unpacked to a disk.\n\nExamples:\n  stillframe inspect app.tar --members\n  ssh host cat app.tar.gz | stillframe inspect -',
    )
    .action(async (argument: string, options: { members?: boolean; maxUnpackedBytes?: number; json?: boolean }) => {
      await using source = await archiveOf(argument);
      const { maxUnpackedBytes } = options;
      const { archiveName } = source;
      const inspection = await inspect(source.archive, { archiveName, signal, maxUnpackedBytes });
      if (options.json === true) {
        print(json(inspection));
        return;
      }
      const { manifest, foreign, members, warnings } = inspection;
      const subject = (manifest?.subject ?? {}) as {
        createdAt?: unknown;
        pid?: unknown;
        kernel?: { release?: unknown } | null;
        criu?: { version?: unknown } | null;
        cgroup?: { version?: unknown; name?: unknown; members?: unknown } | null;
      };
      const lines: [string, string | number][] = [
        ['archive', inspection.archivePath],
        ['members', `${members.length} (${bytes(members.reduce((sum, m) => sum + m.bytes, 0))})`],
      ];
      if (manifest === undefined) lines.push(...foreignLines(foreign));
      else {
        lines.push(
          ['made', text(subject.createdAt)],
          ['root pid', text(subject.pid)],
          ['processes', Array.isArray(subject.cgroup?.members) ? subject.cgroup.members.length : '?'],
          ['cgroup', `${text(subject.cgroup?.name)} (v${text(subject.cgroup?.version)})`],
          ['kernel', text(subject.kernel?.release)],
          ['CRIU', text(subject.criu?.version)],
        );
      }
      const texts = [`${warningsText(warnings, checkpointCommand(signal))}${facts(lines)}`];
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
      if (options.members === true)
        texts.push(
          table(
            ['type', 'bytes', 'member'],
            members.map((m) => [m.type, m.bytes, m.name]),
          ),
        );
      print(texts.join('\n\n'));
    });
}

export function verifyCommand(signal: AbortSignal): Command {
  return new Command('verify')
    .description('Check every byte of an archive against its manifest.')
    .argument('<archive>', 'a path; - for the standard input')
    .option(
      '--max-unpacked-bytes <size>',
      'size limit for unpacking a compressed archive (default: 90 % of the free space)',
      byteCount,
    )
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      '\nIf the archive is damaged: exit status 1, and the damaged member is named.\n\nExample:\n  stillframe verify app.tar && scp app.tar other:',
    )
    .action(async (argument: string, options: { maxUnpackedBytes?: number; json?: boolean }) => {
      await using source = await archiveOf(argument);
      const { maxUnpackedBytes } = options;
      const { archiveName } = source;
      const verified = await verify(source.archive, { archiveName, signal, maxUnpackedBytes });
      const { archivePath, members, bytes: size } = verified;
      print(
        options.json === true
          ? json({ archivePath, members, bytes: size })
          : `${archivePath}: ${members} members, ${bytes(size)}: every byte verified`,
      );
    });
}

/** What the archive of another engine says of itself. */
function foreignLines(foreign: ForeignCheckpoint | undefined): [string, string][] {
  if (foreign === undefined) return [['manifest', 'none: not written by Stillframe']];
  const { engine = 'another engine', id, name, image, runtime, checkpointedAt } = foreign;
  const lines: [string, string | undefined][] = [
    ['made by', engine],
    ['container', [name, id && `(${id})`].filter(Boolean).join(' ')],
    ['image', image],
    ['runtime', runtime],
    ['made', checkpointedAt],
    ['manifest', 'none: without hashes, Stillframe can neither verify nor restore it'],
  ];
  return lines.filter((line): line is [string, string] => line[1] !== undefined && line[1] !== '');
}

/** A fact of the manifest, which nobody has checked. */
function text(value: unknown): string | number {
  return typeof value === 'string' || typeof value === 'number' ? value : '?';
}

function showBytes(value: string | { base64: string }): string {
  return typeof value === 'string' ? value : `base64:${value.base64}`;
}
