import { Command } from 'commander';
import { writeImage } from '../../index.js';
import { byteCount } from '../arguments.js';
import { bytes, facts, json, print } from '../output.js';

export function imageCommand(signal: AbortSignal): Command {
  return new Command('image')
    .description("Write a container's checkpoint as an OCI image layout, to be copied to a registry.")
    .argument('<archive>', 'what `stillframe checkpoint` wrote')
    .argument('<dir>', 'the layout, a directory that does not exist yet')
    .option('--ref <name>', 'the name of the image in the layout', 'latest')
    .option(
      '--max-unpacked-bytes <size>',
      'size limit for unpacking a compressed archive (default: 90 % of the free space)',
      byteCount,
    )
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      `
Example:
  stillframe image web.tar web-image
  skopeo copy oci:web-image:latest docker://registry.example/checkpoints/web:1`,
    )
    .action(
      async (
        archive: string,
        directory: string,
        options: { ref: string; maxUnpackedBytes?: number; json?: boolean },
      ) => {
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
      },
    );
}
