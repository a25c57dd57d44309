/* Bytes on their way into a file at given places: in one piece as long as each follows the last. */
#ifndef STILLFRAME_OUT_H
#define STILLFRAME_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SF_OUT_BYTES (1024 * 1024)

struct sf_out {
	int fd;
	char *bytes;
	size_t len;
	off_t offset; /* of `bytes` in the file */
	int err; /* of the file, once one has failed: then nothing more is written */
	const _Atomic bool
		*cancelled; /* or NULL; asked between two pieces of a large copy, which then fails with ECANCELED */
};

bool sf_out_begin(struct sf_out *out, int fd);
void sf_out_end(struct sf_out *out);
void sf_out_flush(struct sf_out *out);
/* What is appended next goes there. */
void sf_out_seek(struct sf_out *out, off_t offset);
/* Room for `len` bytes at the end, for the caller to fill; `len` is at most SF_OUT_BYTES. */
char *sf_out_room(struct sf_out *out, size_t len);
void sf_out_append(struct sf_out *out, const char *bytes, size_t len);

/*
 * Copies between files by the kernel, or through the buffer where it cannot; nothing may wait in the buffer. 0, or
 * -errno of the source; an error of the target is left in `out->err`. `*copied` is short at the source's end.
 */
int sf_out_copy(struct sf_out *out, int from, off_t from_offset, off_t to_offset, uint64_t len, uint64_t *copied);
/*
 * The same through the buffer, at most SF_OUT_BYTES at a time: also where the ranges overlap. Bytes copied, or -1 and
 * errno.
 */
ssize_t sf_out_copy_buffered(struct sf_out *out, int from, off_t from_offset, off_t to_offset, size_t len);

#endif
