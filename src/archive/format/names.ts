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

/** The directory part of a name, '' at the top. */
export function parentName(name: string): string {
  const slash = name.lastIndexOf('/');
  return slash < 0 ? '' : name.slice(0, slash);
}
