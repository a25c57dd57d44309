import type { ArchiveVerification, ExpectedFile } from '../index.js';
import { visibleName } from '../visible.js';
import { bytes } from './output.js';

/** As many files are named; `--json` has all. */
const MAX_SHOWN = 10;

/** What `verify` found, for people. */
export function verificationText({
  archivePath,
  members,
  bytes: size,
  foreign,
  restorable,
}: ArchiveVerification): string {
  const { processes, faults, expected } = restorable;
  const contents = `${archivePath}: ${members} members, ${bytes(size)}`;
  const engine = foreign?.engine ?? 'another engine';
  return [
    foreign === undefined
      ? `${contents}: every byte verified`
      : `${contents}: written by ${engine}, without digests: its bytes cannot be verified`,
    ...faults.map(({ message }) => `PROBLEM  ${message}`),
    verdict(processes, faults.length),
    ...expectedText(expected),
  ]
    .map((line) => visibleName(line))
    .join('\n');
}

function verdict(processes: number, faults: number): string {
  if (faults > 0) return `CRIU will not restore it: ${faults === 1 ? 'one problem' : `${faults} problems`}`;
  const whose = processes === 1 ? 'its process' : `its ${processes} processes`;
  return `restorable: CRIU's images are complete, and the files of ${whose} are as CRIU recorded them`;
}

function expectedText(expected: readonly ExpectedFile[]): string[] {
  if (expected.length === 0) return [];
  const shown = expected
    .slice(0, MAX_SHOWN)
    .map(({ path, bytes: size }) => `  ${path}${size === undefined ? '' : ` (${size} bytes)`}`);
  const more = expected.length - shown.length;
  return [
    'not in the archive: these must have the same size and mode where it is restored',
    ...shown,
    ...(more > 0 ? [`  and ${more} more (--json names all)`] : []),
  ];
}
