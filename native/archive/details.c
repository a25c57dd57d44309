#include "details.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

bool sf_bytes_reserve(struct sf_bytes *bytes, size_t more)
{
	if (bytes->len + more > bytes->room) {
		size_t room = (bytes->len + more) * 2 + 4096;
		char *at = bytes->borrowed ? malloc(room) : realloc(bytes->at, room);
		if (!at) {
			bytes->failed = true;
			return false;
		}
		if (bytes->borrowed)
			memcpy(at, bytes->at, bytes->len);
		bytes->borrowed = false;
		bytes->at = at;
		bytes->room = room;
	}
	return true;
}

void sf_bytes_append(struct sf_bytes *bytes, const void *data, size_t len)
{
	if (!sf_bytes_reserve(bytes, len))
		return;
	memcpy(bytes->at + bytes->len, data, len);
	bytes->len += len;
}

static ssize_t list_xattrs(const struct sf_place *place, char *list, size_t size)
{
	if (place->fd >= 0)
		return flistxattr(place->fd, list, size);
	return place->follow ? listxattr(place->path, list, size) : llistxattr(place->path, list, size);
}

static ssize_t get_xattr(const struct sf_place *place, const char *name, char *value)
{
	if (place->fd >= 0)
		return fgetxattr(place->fd, name, value, SF_XATTR_BYTES);
	return place->follow ? getxattr(place->path, name, value, SF_XATTR_BYTES)
						 : lgetxattr(place->path, name, value, SF_XATTR_BYTES);
}

int sf_append_xattrs(struct sf_bytes *out, const struct sf_place *place, char *list, char *value, uint32_t *count)
{
	/* Most files have none, and a question for the length spares the kernel a buffer as large as ours. */
	ssize_t len = list_xattrs(place, NULL, 0);

	if (len > 0)
		len = list_xattrs(place, list, SF_XATTR_BYTES);
	if (len < 0)
		return errno == ENOTSUP || errno == ENOSYS ? 0 : errno;
	for (const char *name = list; name < list + len; name += strlen(name) + 1) {
		ssize_t value_len = get_xattr(place, name, value);
		if (value_len < 0) {
			if (errno == ENODATA)
				continue;
			return errno;
		}
		uint32_t lengths[2] = { (uint32_t)strlen(name), (uint32_t)value_len };
		sf_bytes_append(out, lengths, sizeof(lengths));
		sf_bytes_append(out, name, lengths[0]);
		sf_bytes_append(out, value, lengths[1]);
		(*count)++;
	}
	return 0;
}

int sf_append_ranges(struct sf_bytes *out, int fd, uint64_t size, uint32_t *count)
{
	off_t at = 0;

	while ((uint64_t)at < size) {
		off_t data = lseek(fd, at, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : errno; /* ENXIO: no data from here on */
		off_t hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return errno;
		double range[2] = { (double)data, (double)(hole - data) };
		sf_bytes_append(out, range, sizeof(range));
		(*count)++;
		at = hole;
	}
	return 0;
}
