import { writeImage } from '../../index.js';
import { bytes, facts, json } from '../output.js';
import { print } from '../streams.js';

/** What commander hands over. */
export interface ImageFlags {
  ref: string;
  maxUnpackedBytes?: number;
  json?: boolean;
}

export async function imageAction(
  archive: string,
  directory: string,
  options: ImageFlags,
  signal: AbortSignal,
): Promise<void> {
  const report = await writeImage({
    archive,
    directory,
    ref: options.ref,
    maxUnpackedBytes: options.maxUnpackedBytes,
    signal,
  });
  const text =
    options.json === true
      ? json(report)
      : facts([
          ['image', `oci:${report.directory}:${options.ref}`],
          ['manifest', report.digest],
          ['layer', bytes(report.layerBytes)],
        ]);
  print(text);
}
