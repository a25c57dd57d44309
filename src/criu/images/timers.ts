import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Reader } from 'protobufjs/minimal.js';
import { CriuError } from '../errors/criu-error.js';
import { file_entry, type timerfd_entry } from '../generated/criu.js';
import { FILES_MAGIC } from './files.js';
import { imageEntries, toNumber } from './image-file.js';

const TFD_FIELD = 12;
const SETTIME_FLAGS_FIELD = 6;
const VNSEC_FIELD = 8;
const TFD_TIMER_ABSTIME = 1;
/** CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM: nobody sets these. */
const steadyClocks = [1, 7, 9];

interface Patch {
  /** Where in the file, and the one byte that goes there. */
  offset: number;
  byte: number;
}

/**
 * Repairs timers (timerfd) in the images that CRIU would bring back wrong:
 *
 * - Periodic ones that had fired and were not read yet. The kernel starts the next period of such a timer when it is
 * read, and until
 *   then says that nothing is left of this one. CRIU takes that for disarmed, and the timer never fires again. Here
 *   it is given one nanosecond: it fires at once, and its period goes on.
 * - Absolute ones. CRIU notes what is left and adds it to the whole seconds of the clock, so that they fire up to a
 * second early. On a clock
 *   that nobody sets, such a timer is made relative, which says the same.
 *
 * The images may have been dumped, and may be restored, by anyone; doing it twice changes nothing.
 * Source: fs/timerfd.c, timerfd_show and timerfd_read, Linux v6.12; criu/timerfd.c and timerfd_arm in
 * criu/pie/restorer.c, CRIU v4.2.
 * @returns how many timers were changed
 * @throws CriuError CRIU_IMAGE
 */
export async function repairTimers(imagesDir: string): Promise<number> {
  const path = join(imagesDir, 'files.img');
  const patches: Patch[] = [];
  for await (const found of imageEntries(path, FILES_MAGIC, patchesFor)) patches.push(...found);
  if (patches.length === 0) return 0;
  try {
    await using image = await open(path, 'r+');
    for (const { offset, byte } of patches) await image.write(Uint8Array.of(byte), 0, 1, offset);
  } catch (cause) {
    throw new CriuError('CRIU_IMAGE', { path, cause });
  }
  return patches.length;
}

function patchesFor(data: Uint8Array, at: number): Patch[] {
  const { tfd } = file_entry.decode(data);
  if (tfd == null) return [];
  const patches: Patch[] = [];
  if (hasFiredUnread(tfd)) patches.push({ offset: at + placeOf(data, VNSEC_FIELD), byte: 1 });
  // With further flags it is a timer that wants to know of a clock that is set, which these are not.
  if (steadyClocks.includes(tfd.clockid) && tfd.settimeFlags === TFD_TIMER_ABSTIME)
    patches.push({ offset: at + placeOf(data, SETTIME_FLAGS_FIELD), byte: 0 });
  return patches;
}

/** One that was disarmed may have a period too, but no ticks. */
function hasFiredUnread({ ticks, vsec, vnsec, isec, insec }: timerfd_entry): boolean {
  const isPeriodic = toNumber(isec) > 0 || toNumber(insec) > 0;
  return isPeriodic && toNumber(ticks) > 0 && toNumber(vsec) === 0 && toNumber(vnsec) === 0;
}

/** Where the timer's field has its value: one byte, since both are below 128, and CRIU writes no longer forms. */
function placeOf(data: Uint8Array, field: number): number {
  const reader = Reader.create(data);
  seek(reader, TFD_FIELD);
  reader.uint32();
  seek(reader, field);
  return reader.pos;
}

/** To the value of the field, which is there: it has been decoded. */
function seek(reader: Reader, field: number): void {
  for (let tag = reader.uint32(); tag >>> 3 !== field; tag = reader.uint32()) reader.skipType(tag & 7);
}
