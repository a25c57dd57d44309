/* One member of the archive, in GNU tar's own format, as `tar --create --numeric-owner` writes it. */
#ifndef STILLFRAME_CRIU_TAR_MEMBER_H
#define STILLFRAME_CRIU_TAR_MEMBER_H

#include <stddef.h>
#include <sys/stat.h>

/* A part of a file that holds data. */
struct extent {
	off_t start, length;
};

/*
 * The header of anything. A directory's name ends with a slash. `link` is what a symbolic link says, or the member that
 * a hard link leads to; else NULL. `bytes` of content are to follow, for a regular file.
 */
void put_header(char type, const char *name, const char *link, const struct stat *st, off_t bytes);

/* The same for a file with holes, whose extents' content is to follow; the last one ends where the file does. */
void put_sparse_header(const char *name, const struct stat *st, const struct extent *extents, size_t count);

/* Zeros up to the next full block, after so many bytes of content. */
void put_padding(off_t bytes);

void put_end(void);

#endif
