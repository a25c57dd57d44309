/*
 * The one pass over an archive that is checked, and put into its places meanwhile: the data of each member is read
 * once, hashed, and written where it goes, on libuv's threads.
 */
#include "lines.h"
#include "../addon/job.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BLOCK 512
#define CHUNK_BYTES (256 * 1024)
/* From this length on data begins on a page in the archive (docs/format.md), and may be shared with its copy. */
#define SHARED_BYTES (8 << 20)
#define PAGE 4096

struct member {
	double offset, header_bytes, data_bytes;
	double name_bytes; /* -1: it has no line */
	double fd; /* -1: nothing is made of it */
	double ranges; /* where its data goes, of those that follow each other */
};

struct range {
	double offset, length;
};

struct pass {
	struct sf_job job;
	int archive;
	const struct member *members;
	size_t count;
	const struct range *ranges;
	size_t n_ranges;
	const char *names;
	size_t names_bytes;
	unsigned char *digests; /* of header with padding, one after the other */
	size_t digests_bytes;
	char *lines;
	size_t room, used;
	_Atomic uint32_t *control; /* whether to stop; how many chunks are done */

	struct sf_digest *digest;
	unsigned char *buffer;
	size_t at; /* the member that is worked on */
};

/* Where the data of one member goes. */
struct output {
	int fd;
	const struct range *range;
	size_t left; /* ranges */
	uint64_t filled; /* of the current one */
};

static int read_whole(struct pass *pass, int fd, off_t offset, size_t length)
{
	size_t have = 0;

	pass->job.syscall = "read";
	while (have < length) {
		ssize_t got = pread(fd, pass->buffer + have, length - have, offset + (off_t)have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0 ? ENODATA : errno;
		have += (size_t)got;
	}
	return 0;
}

static int write_whole(struct pass *pass, int fd, const unsigned char *data, size_t length, off_t offset)
{
	pass->job.syscall = "write";
	while (length > 0) {
		ssize_t put = pwrite(fd, data, length, offset);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return errno;
		data += put;
		offset += put;
		length -= (size_t)put;
	}
	return 0;
}

/* The next bytes of a member's data. */
static int put(struct pass *pass, struct output *out, const unsigned char *data, size_t length)
{
	while (length > 0 && out->fd >= 0) {
		if (out->left == 0)
			return EINVAL;
		uint64_t room = (uint64_t)out->range->length - out->filled;
		size_t part = length < room ? length : (size_t)room;
		int err = write_whole(pass, out->fd, data, part, (off_t)out->range->offset + (off_t)out->filled);
		if (err)
			return err;
		out->filled += part;
		data += part;
		length -= part;
		if (out->filled == (uint64_t)out->range->length) {
			out->range++;
			out->left--;
			out->filled = 0;
		}
	}
	return 0;
}

/* How many bytes at the front of a member are its copy's now without having been copied; often none. */
static uint64_t share(const struct pass *pass, const struct output *out, off_t data, uint64_t length)
{
	if (out->fd < 0 || length < SHARED_BYTES || data % PAGE != 0 || out->left != 1)
		return 0;
	struct file_clone_range range = {
		.src_fd = pass->archive,
		.src_offset = (uint64_t)data,
		.src_length = length / PAGE * PAGE,
		.dest_offset = (uint64_t)out->range->offset,
	};
	return ioctl(out->fd, FICLONERANGE, &range) == 0 ? range.src_length : 0;
}

static bool is_wanted(struct pass *pass)
{
	atomic_fetch_add_explicit(&pass->control[1], 1, memory_order_relaxed);
	return atomic_load_explicit(&pass->control[0], memory_order_relaxed) == 0;
}

/* A member that fits into the buffer is read by one call. */
static int pass_small(struct pass *pass, const struct member *member, struct output *out, unsigned char *digest)
{
	size_t header = (size_t)member->header_bytes, data = (size_t)member->data_bytes;
	size_t padding = (BLOCK - data % BLOCK) % BLOCK;
	const unsigned char *bytes = pass->buffer;
	int err = read_whole(pass, pass->archive, (off_t)member->offset, header + data + padding);

	if (err)
		return err;
	sf_digest_of(pass->digest, bytes, header, bytes + header + data, padding, digest);
	sf_digest_update(pass->digest, bytes + header, data);
	return put(pass, out, bytes + header, data);
}

static int pass_large(struct pass *pass, const struct member *member, struct output *out, unsigned char *digest)
{
	uint64_t parts[] = { (uint64_t)member->header_bytes, (BLOCK - (uint64_t)member->data_bytes % BLOCK) % BLOCK };
	off_t data = (off_t)member->offset + (off_t)parts[0], end = data + (off_t)member->data_bytes;
	off_t starts[] = { (off_t)member->offset, end };
	int err = 0;

	for (int i = 0; i < 2; i++) {
		for (uint64_t done = 0; done < parts[i] && !err;) {
			size_t part = parts[i] - done < CHUNK_BYTES ? (size_t)(parts[i] - done) : CHUNK_BYTES;
			err = read_whole(pass, pass->archive, starts[i] + (off_t)done, part);
			if (!err)
				sf_digest_update(pass->digest, pass->buffer, part);
			done += part;
		}
	}
	sf_digest_take(pass->digest, digest);
	off_t copied = data + (off_t)share(pass, out, data, (uint64_t)member->data_bytes);
	out->filled = (uint64_t)(copied - data);
	for (off_t at = data; at < end && !err;) {
		off_t stop = at < copied ? copied : end;
		size_t part = stop - at < CHUNK_BYTES ? (size_t)(stop - at) : CHUNK_BYTES;
		if (!is_wanted(pass))
			return ECANCELED;
		/* What is shared is hashed as it was shared: somebody may write to the archive. */
		if (at < copied)
			err = read_whole(pass, out->fd, (off_t)out->range->offset + (at - data), part);
		else
			err = read_whole(pass, pass->archive, at, part);
		if (err)
			break;
		sf_digest_update(pass->digest, pass->buffer, part);
		if (at >= copied)
			err = put(pass, out, pass->buffer, part);
		at += (off_t)part;
	}
	return err;
}

static int pass_members(struct pass *pass)
{
	const struct range *range = pass->ranges;
	const char *name = pass->names;

	for (pass->at = 0; pass->at < pass->count; pass->at++) {
		const struct member *member = &pass->members[pass->at];
		struct output out = { .fd = (int)member->fd, .range = range, .left = (size_t)member->ranges };
		unsigned char *digest = pass->digests + SF_DIGEST * pass->at, of_data[SF_DIGEST];
		int err = 0;

		if (!is_wanted(pass))
			return ECANCELED;
		/* The digest of a failed one is of no use, but the next must begin anew. */
		if (member->header_bytes + member->data_bytes + BLOCK <= CHUNK_BYTES)
			err = pass_small(pass, member, &out, digest);
		else
			err = pass_large(pass, member, &out, digest);
		sf_digest_take(pass->digest, of_data);
		if (err)
			return err;
		range += (size_t)member->ranges;
		if (member->name_bytes < 0)
			continue;
		char *end = sf_append_line(pass->lines + pass->used, of_data, name, (size_t)member->name_bytes);
		pass->used = (size_t)(end - pass->lines);
		name += (size_t)member->name_bytes;
	}
	return 0;
}

static void run(struct sf_job *job)
{
	struct pass *pass = (struct pass *)job;

	pass->digest = sf_digest_new();
	pass->buffer = malloc(CHUNK_BYTES);
	job->err = pass->digest && pass->buffer ? pass_members(pass) : ENOMEM;
	sf_digest_free(pass->digest);
	free(pass->buffer);
}

static napi_value result(napi_env env, struct sf_job *job)
{
	napi_value used;

	napi_create_double(env, (double)((struct pass *)job)->used, &used);
	return used;
}

static void explain(napi_env env, struct sf_job *job, napi_value error)
{
	napi_value index;

	napi_create_uint32(env, (uint32_t)((struct pass *)job)->at, &index);
	napi_set_named_property(env, error, "member", index);
}

static void release(struct sf_job *job)
{
	free(job);
}

/* What the thread would otherwise write or read beyond. */
static bool has_room(const struct pass *pass)
{
	double names = 0, named = 0, ranges = 0;

	for (size_t i = 0; i < pass->count; i++) {
		const struct member *member = &pass->members[i];
		ranges += member->ranges;
		if (member->name_bytes < 0)
			continue;
		names += member->name_bytes;
		named++;
	}
	return names <= (double)pass->names_bytes && ranges <= (double)pass->n_ranges &&
		named * SF_LINE_MORE + 2 * names <= (double)pass->room && SF_DIGEST * pass->count <= pass->digests_bytes;
}

/*
 * passMembers(archiveFd, members: Float64Array, ranges: Float64Array, names, digests, lines: Buffer, control:
 * Uint32Array): a promise of the bytes of the lines.
 */
static napi_value pass_members_of(napi_env env, napi_callback_info info)
{
	size_t argc = 7, numbers, range_numbers, words;
	napi_value argv[7];
	struct pass *pass = calloc(1, sizeof(*pass));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!pass)
		return sf_throw_errno(env, ENOMEM, "passMembers");
	pass->job = (struct sf_job){ .run = run, .result = result, .explain = explain, .release = release };
	if (napi_get_value_int32(env, argv[0], &pass->archive) != napi_ok ||
		napi_get_typedarray_info(env, argv[1], NULL, &numbers, (void **)&pass->members, NULL, NULL) != napi_ok ||
		napi_get_typedarray_info(env, argv[2], NULL, &range_numbers, (void **)&pass->ranges, NULL, NULL) != napi_ok ||
		napi_get_buffer_info(env, argv[3], (void **)&pass->names, &pass->names_bytes) != napi_ok ||
		napi_get_buffer_info(env, argv[4], (void **)&pass->digests, &pass->digests_bytes) != napi_ok ||
		napi_get_buffer_info(env, argv[5], (void **)&pass->lines, &pass->room) != napi_ok ||
		napi_get_typedarray_info(env, argv[6], NULL, &words, (void **)&pass->control, NULL, NULL) != napi_ok) {
		release(&pass->job);
		return NULL;
	}
	pass->count = numbers / (sizeof(struct member) / sizeof(double));
	pass->n_ranges = range_numbers / 2;
	if (words < 2 || !has_room(pass)) {
		release(&pass->job);
		return sf_throw_errno(env, EINVAL, "passMembers");
	}
	return sf_job_start(env, &pass->job, "stillframe:pass", &argv[1], 6);
}

void sf_init_pass(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "passMembers", pass_members_of);
}
