/* Tar headers of the usual kind: what src/archive/format/tar-encode.ts makes of such an entry, byte for byte. */
#ifndef STILLFRAME_MEMBER_H
#define STILLFRAME_MEMBER_H

#include "../tree/tree.h"

#define SF_BLOCK 512
/* Longer names are left to TypeScript. */
#define SF_NAME_MAX 900
/* A pax header with an mtime and a path, and the header itself. */
#define SF_HEADER_MAX (4 * SF_BLOCK)

/*
 * The header of a regular file without holes, attributes and further names. Its length, or 0 when it is not of
 * the usual kind: a number that does not fit, or too long a name.
 */
size_t sf_member_header(const struct sf_entry *entry, const char *name, size_t name_len, char out[SF_HEADER_MAX]);

#endif
