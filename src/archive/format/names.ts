const SLASH = 0x2f;

/** The archive name of the root of a tree that is a tar of its own. */
export const ROOT_NAME = '.';

/** A longer name, or target of a link, is neither written nor read. Never cut: it would be another's. */
export const MAX_NAME_BYTES = 64 * 1024;

/**
 * Why a member's name must not be extracted, or undefined when it is safe: a relative path of plain
 * components. `.` alone is the root of a nested tree.
 */
export function unsafeName(name: Buffer): string | undefined {
  if (name.length === 0) return 'an empty name';
  if (name.includes(0)) return 'a zero byte in the name';
  const text = name.toString('latin1');
  if (text.startsWith('/')) return 'an absolute path';
  if (text === ROOT_NAME) return undefined;
  // Not part by part: a name may have thousands, and an archive thousands of such names.
  if (/(?:^|\/)\.\.(?:\/|$)/.test(text)) return 'a path that leads upwards';
  if (/(?:^|\/)\.?(?:\/|$)/.test(text)) return 'an empty component in the path';
  if (/[^/]{256}/.test(text)) return 'a component of more than 255 bytes';
  return undefined;
}

/**
 * `unsafeName` of names one after another: what one shares with the one before it has been looked at, or a tree of many
 * levels would take long.
 */
export class NameCheck {
  #last: Buffer = Buffer.alloc(0);

  /** As `unsafeName`. */
  unsafe(name: Buffer): string | undefined {
    const common = commonLength(this.#last, name);
    const parent = common === 0 ? -1 : name.lastIndexOf(SLASH, common - 1);
    // With a component before it, so that it reads like the whole.
    const from = parent <= 0 ? 0 : name.lastIndexOf(SLASH, parent - 1) + 1;
    const wrong = unsafeName(name.subarray(from));
    if (wrong === undefined) this.#last = Buffer.from(name);
    return wrong;
  }
}

/** How many bytes two names have in common at their beginning. */
export function commonLength(one: Buffer, other: Buffer): number {
  const most = Math.min(one.length, other.length);
  if (one.compare(other, 0, most, 0, most) === 0) return most;
  let length = 0;
  while (length < most && one[length] === other[length]) length++;
  return length;
}

/** The directory part of a name, '' at the top. */
export function parentName(name: string): string {
  const slash = name.lastIndexOf('/');
  return slash < 0 ? '' : name.slice(0, slash);
}
