import { Command } from 'commander';
import type { ImageFlags } from '../actions/image.js';
import { byteCount } from '../arguments.js';

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
    .action(async (archive: string, directory: string, options: ImageFlags) =>
      (await import('../actions/image.js')).imageAction(archive, directory, options, signal),
    );
}
