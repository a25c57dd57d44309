/** What the archives of a series are called: `NAME-20261130T191745.123Z.tar`, so that names sort by time. */
import type { OutputCompression } from '../../archive/index.js';

/** An archive of a series, as its name says. */
export interface SeriesName {
  series: string;
  /** When its checkpoint began, in milliseconds since 1970. */
  atMs: number;
}

const NAME = /^(.+)-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d\.\d{3})Z\.tar(?:\.gz|\.zst)?$/;

const SUFFIX: Readonly<Record<OutputCompression, string>> = { gzip: '.gz', zstd: '.zst' };

export function archiveName({ series, atMs }: SeriesName, compress: OutputCompression | undefined): string {
  const stamp = new Date(atMs).toISOString().replaceAll(/[-:]/g, '');
  return `${series}-${stamp}.tar${compress === undefined ? '' : SUFFIX[compress]}`;
}

/** `undefined` for a file that no series has made. */
export function parseArchiveName(file: string): SeriesName | undefined {
  const [, series, year, month, day, hour, minute, second] = NAME.exec(file) ?? [];
  const atMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  return series === undefined || Number.isNaN(atMs) ? undefined : { series, atMs };
}

/** A name for what has none that could be a part of a file's. */
export function seriesName(...parts: readonly (string | number)[]): string {
  return parts
    .map((part) =>
      String(part)
        .replaceAll(/[^a-zA-Z0-9_.+-]/g, '_')
        .slice(0, 128),
    )
    .join('-');
}
