/* What an archive says of an entry beyond its stat, gathered in a buffer that grows. */
#ifndef STILLFRAME_DETAILS_H
#define STILLFRAME_DETAILS_H

#include "../tree/tree.h"

struct sf_bytes {
	char *at;
	size_t len, room;
	bool borrowed; /* `at` is somebody else's: what outgrows it moves to memory of its own */
	bool failed; /* memory ran out */
};

bool sf_bytes_reserve(struct sf_bytes *bytes, size_t more);
void sf_bytes_append(struct sf_bytes *bytes, const void *data, size_t len);

/* The longest list of attribute names, the longest value, and more than the longest path. */
#define SF_XATTR_BYTES 65536

/* Where attributes are read from: an open file; or a path, followed only where it is the root's link in /proc. */
struct sf_place {
	int fd; /* or -1 */
	const char *path;
	bool follow;
};

/*
 * Lengths of name and value, name, value, for each attribute. `list` and `value` have SF_XATTR_BYTES. 0, or an errno.
 */
int sf_append_xattrs(struct sf_bytes *out, const struct sf_place *place, char *list, char *value, uint32_t *count);

/* Offset and length, as doubles, of each range of data in a file that has holes. 0, or an errno. */
int sf_append_ranges(struct sf_bytes *out, int fd, uint64_t size, uint32_t *count);

#endif
