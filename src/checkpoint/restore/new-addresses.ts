/** Other addresses for the inet sockets of a restored tree. */
import { readdirSync, symlinkSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { addressWords, replaceAddresses, type AddressWords } from '../../criu/index.js';
import { bad } from '../base/check-option.js';

export type AddressReplacement = readonly [old: string, by: string];

/** @throws CheckpointError BAD_OPTION */
export function checkAddresses(value: Record<string, string> | undefined): AddressReplacement[] {
  return Object.entries(value ?? {}).map(([old, by]) => {
    for (const address of [old, by])
      if (typeof address !== 'string' || addressWords(address) === undefined)
        bad('replaceAddresses', address, 'an IPv4 or IPv6 address');
    if (isIP(old) !== isIP(by)) bad('replaceAddresses', by, `an address of the same kind as ${old}`);
    return [old, by];
  });
}

/**
 * Makes the replacements in images of ours.
 * @throws CheckpointError BAD_OPTION for an address that no socket has; CriuError CRIU_IMAGE
 */
export async function giveAddresses(
  imagesDir: string,
  replacements: readonly AddressReplacement[],
  image?: string,
): Promise<void> {
  if (replacements.length === 0) return;
  const words = replacements.map((pair) => pair.map((text) => addressWords(text)!) as [AddressWords, AddressWords]);
  const made = await replaceAddresses(imagesDir, words, image);
  const unused = made.indexOf(0);
  if (unused >= 0)
    bad(
      'replaceAddresses',
      replacements[unused]![0],
      'an address that a socket of the archive has (inspect --sockets)',
    );
}

/**
 * The same for images that others use too.
 * @param own An empty directory of ours: it gets the changed image, and refers to the others.
 */
export async function giveOwnAddresses(
  imagesDir: string,
  replacements: readonly AddressReplacement[],
  own: string,
): Promise<void> {
  for (const name of readdirSync(imagesDir))
    if (name !== 'files.img') symlinkSync(join(imagesDir, name), join(own, name));
  await giveAddresses(imagesDir, replacements, join(own, 'files.img'));
}
