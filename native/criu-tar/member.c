/*
 * Source: tar.h and "Basic Tar Format" of GNU tar 1.34; POSIX.1-2017, pax, "Extended Header", for what GNU's format has
 * no room for: parts of a second.
 */
#include "member.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "gzip.h"

#define BLOCK 512
#define SPARSE_IN_HEADER 4
#define SPARSE_IN_EXTENSION 21

struct sparse {
	char start[12], length[12];
};

union header {
	char bytes[BLOCK];
	struct {
		char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[8];
		char owner[32], group[32], major[8], minor[8], unused[41];
		struct sparse sparse[SPARSE_IN_HEADER];
		char is_extended, real_size[12];
	};
	struct {
		struct sparse sparse[SPARSE_IN_EXTENSION];
		char is_extended;
	} extension;
};

_Static_assert(sizeof(union header) == BLOCK, "a header is a block");

/* In octal, with a zero byte after it; what does not fit, and what is negative, in GNU's binary form. */
static void put_number(char *field, size_t width, int64_t value)
{
	if (value >= 0 && (width >= 12 ? value < INT64_C(1) << 33 : value < INT64_C(1) << 21)) {
		snprintf(field, width, "%0*llo", (int)width - 1, (unsigned long long)value);
		return;
	}
	for (size_t i = width - 1; i > 0; i--) {
		field[i] = (char)value;
		value >>= 8;
	}
	field[0] = (char)(value < 0 ? 0xff : 0x80);
}

static void put_block(union header *header)
{
	unsigned int sum = 0;

	memset(header->checksum, ' ', sizeof(header->checksum));
	for (size_t i = 0; i < BLOCK; i++)
		sum += (unsigned char)header->bytes[i];
	snprintf(header->checksum, sizeof(header->checksum), "%06o", sum);
	gzip_write(header, BLOCK);
}

static void fill(union header *header, char type, const char *name, off_t bytes)
{
	memset(header, 0, sizeof(*header));
	memcpy(header->name, name, strnlen(name, sizeof(header->name)));
	put_number(header->size, sizeof(header->size), bytes);
	header->type = type;
	memcpy(header->magic, "ustar  ", sizeof(header->magic));
}

static void fill_details(union header *header, mode_t mode, uid_t uid, gid_t gid, int64_t mtime)
{
	put_number(header->mode, sizeof(header->mode), mode & 07777);
	put_number(header->uid, sizeof(header->uid), uid);
	put_number(header->gid, sizeof(header->gid), gid);
	put_number(header->mtime, sizeof(header->mtime), mtime);
}

/* A member that says something of the next one. */
static void put_note(char type, const char *name, const char *text, size_t length)
{
	union header header;

	fill(&header, type, name, (off_t)length);
	fill_details(&header, 0644, 0, 0, 0);
	put_block(&header);
	gzip_write(text, length);
	put_padding((off_t)length);
}

static void put_long(char type, const char *text)
{
	if (text && strlen(text) >= sizeof(((union header *)0)->name))
		put_note(type, "././@LongLink", text, strlen(text) + 1);
}

/* GNU tar leaves the parts of a second out, unless it is asked for the pax format; on extraction it knows them. */
static void put_exact_time(const struct timespec *time)
{
	char value[48], record[64];
	int64_t seconds = time->tv_sec;
	long nanoseconds = time->tv_nsec;
	int length;

	if (nanoseconds == 0)
		return;
	if (seconds < 0) {
		seconds = -(seconds + 1);
		nanoseconds = 1000000000 - nanoseconds;
	}
	length = snprintf(
		value, sizeof(value), " mtime=%s%lld.%09ld\n", time->tv_sec < 0 ? "-" : "", (long long)seconds, nanoseconds);
	/* The length counts its own digits: two, as no time makes it three. */
	length = snprintf(record, sizeof(record), "%d%s", length + 2, value);
	put_note('x', "./PaxHeaders/mtime", record, (size_t)length);
}

static void fill_member(
	union header *header, char type, const char *name, const char *link, const struct stat *st, off_t bytes)
{
	put_exact_time(&st->st_mtim);
	put_long('K', link);
	put_long('L', name);
	fill(header, type, name, bytes);
	fill_details(header, st->st_mode, st->st_uid, st->st_gid, st->st_mtim.tv_sec);
	if (link)
		memcpy(header->link, link, strnlen(link, sizeof(header->link)));
	if (type == '3' || type == '4') {
		put_number(header->major, sizeof(header->major), major(st->st_rdev));
		put_number(header->minor, sizeof(header->minor), minor(st->st_rdev));
	}
}

void put_header(char type, const char *name, const char *link, const struct stat *st, off_t bytes)
{
	union header header;

	fill_member(&header, type, name, link, st, bytes);
	put_block(&header);
}

static size_t fill_sparse(struct sparse *to, size_t room, const struct extent *extents, size_t count)
{
	size_t used = count < room ? count : room;

	for (size_t i = 0; i < used; i++) {
		put_number(to[i].start, sizeof(to[i].start), extents[i].start);
		put_number(to[i].length, sizeof(to[i].length), extents[i].length);
	}
	return used;
}

void put_sparse_header(const char *name, const struct stat *st, const struct extent *extents, size_t count)
{
	union header header;
	off_t bytes = 0;
	size_t done;

	for (size_t i = 0; i < count; i++)
		bytes += extents[i].length;
	fill_member(&header, 'S', name, NULL, st, bytes);
	done = fill_sparse(header.sparse, SPARSE_IN_HEADER, extents, count);
	header.is_extended = done < count;
	put_number(header.real_size, sizeof(header.real_size), st->st_size);
	put_block(&header);
	while (done < count) {
		memset(&header, 0, sizeof(header));
		done += fill_sparse(header.extension.sparse, SPARSE_IN_EXTENSION, extents + done, count - done);
		header.extension.is_extended = done < count;
		gzip_write(&header, BLOCK);
	}
}

void put_padding(off_t bytes)
{
	static const char zeros[BLOCK];

	gzip_write(zeros, (size_t)(-bytes & (BLOCK - 1)));
}

void put_end(void)
{
	static const char zeros[2 * BLOCK];

	gzip_write(zeros, sizeof(zeros));
}
