import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { tty_info_entry, TtyType } from '../generated/criu.js';
import { imageEntries } from './image-file.js';

const TTY_INFO_MAGIC = 0x59453036;
/** Those that have two sides, or with `shellJob` none that the tree could open by itself. */
const inherited: readonly TtyType[] = [TtyType.PTY, TtyType.VT, TtyType.SERIAL];

/**
 * Whether the dump has a terminal whose other side was outside of the tree: with `shellJob` the restore has to be given
 * one, unless it makes one (`orphanPtsMaster`).
 * Source: criu/tty.c, tty_verify_active_pairs, tty_find_restoring_task, CRIU v4.2.
 * @throws CriuError CRIU_IMAGE
 */
export async function needsTerminal(imagesDir: string): Promise<boolean> {
  const path = join(imagesDir, 'tty-info.img');
  if (!existsSync(path)) return false;
  const ids = new Set<number>();
  for await (const { id, type, termios } of imageEntries(path, TTY_INFO_MAGIC, (data) => tty_info_entry.decode(data))) {
    if (inherited.includes(type) && termios != null) ids.add(id);
  }
  return [...ids].some((id) => id % 2 === 0 && !ids.has(id + 1));
}
