/**
 * The kernel's tables write spaces, tabs, line ends and backslashes of a path as three octal digits a byte.
 * Source: fs/seq_file.c, mangle_path, Linux v6.12. @returns latin1: each character is one byte of the path
 */
export function unescapeOctalBytes(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
}

/** The same for text that was read as UTF-8. */
export function unescapeOctal(text: string): string {
  if (!text.includes('\\')) return text;
  return Buffer.from(unescapeOctalBytes(Buffer.from(text).toString('latin1')), 'latin1').toString();
}
