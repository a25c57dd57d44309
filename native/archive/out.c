#include "out.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_BYTES ((size_t)16 * 1024 * 1024)
/* From here on copying into the buffer costs more than a write of its own. */
#define DIRECT_BYTES (64 * 1024)

bool sf_out_begin(struct sf_out *out, int fd)
{
	*out = (struct sf_out){ .fd = fd, .bytes = malloc(SF_OUT_BYTES) };
	return out->bytes != NULL;
}

void sf_out_end(struct sf_out *out)
{
	sf_out_flush(out);
	free(out->bytes);
}

static void write_all(struct sf_out *out, const char *bytes, size_t len, off_t offset)
{
	while (len > 0 && !out->err) {
		ssize_t put = pwrite(out->fd, bytes, len, offset);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0) {
			out->err = errno;
			return;
		}
		bytes += put;
		len -= (size_t)put;
		offset += put;
	}
}

void sf_out_flush(struct sf_out *out)
{
	write_all(out, out->bytes, out->len, out->offset);
	out->offset += (off_t)out->len;
	out->len = 0;
}

void sf_out_seek(struct sf_out *out, off_t offset)
{
	if (out->offset + (off_t)out->len == offset)
		return;
	sf_out_flush(out);
	out->offset = offset;
}

char *sf_out_room(struct sf_out *out, size_t len)
{
	if (out->len + len > SF_OUT_BYTES)
		sf_out_flush(out);
	char *at = out->bytes + out->len;
	out->len += len;
	return at;
}

void sf_out_append(struct sf_out *out, const char *bytes, size_t len)
{
	if (len >= DIRECT_BYTES) {
		sf_out_flush(out);
		write_all(out, bytes, len, out->offset);
		out->offset += (off_t)len;
		return;
	}
	memcpy(sf_out_room(out, len), bytes, len);
}

static bool kernel_cannot(int err)
{
	return err == EXDEV || err == EINVAL || err == EOPNOTSUPP || err == ENOSYS || err == EPERM || err == EBADF ||
		err == ETXTBSY;
}

ssize_t sf_out_copy_buffered(struct sf_out *out, int from, off_t from_offset, off_t to_offset, size_t len)
{
	ssize_t got = pread(from, out->bytes, len < SF_OUT_BYTES ? len : SF_OUT_BYTES, from_offset);
	if (got > 0)
		write_all(out, out->bytes, (size_t)got, to_offset);
	return got;
}

int sf_out_copy(struct sf_out *out, int from, off_t from_offset, off_t to_offset, uint64_t len, uint64_t *copied)
{
	bool buffered = false;

	*copied = 0;
	while (*copied < len && !out->err) {
		if (out->cancelled && atomic_load_explicit(out->cancelled, memory_order_relaxed)) {
			out->err = ECANCELED;
			return 0;
		}
		off_t at = from_offset + (off_t)*copied, to = to_offset + (off_t)*copied;
		size_t want = len - *copied < CHUNK_BYTES ? (size_t)(len - *copied) : CHUNK_BYTES;
		ssize_t got = buffered ? sf_out_copy_buffered(out, from, at, to, want)
							   : copy_file_range(from, &at, out->fd, &to, want, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && !buffered) {
			if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
				out->err = errno;
				return 0;
			}
			if (!kernel_cannot(errno))
				return -errno;
			buffered = true;
			continue;
		}
		if (got < 0)
			return -errno;
		/* Some file systems say 0 where they mean that they cannot: a read tells the end of file for sure. */
		if (got == 0 && !buffered) {
			buffered = true;
			continue;
		}
		if (got == 0)
			return 0;
		*copied += (uint64_t)got;
	}
	return 0;
}
