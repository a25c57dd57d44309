/*
 * Copies entries of a tree into a file at given places: header, data, padding. Small files go through one
 * buffer and are written a megabyte at a time; large ones are copied by the kernel. The stat is compared
 * before and after: what changed in between is said, never hidden.
 */
#include "digest.h"
#include "../addon/job.h"
#include "out.h"
#include "../tree/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 512
#define SMALL_BYTES (128 * 1024)
#define HASHED_BYTES (256 * 1024)
#define PAGE 4096
/* Of a large file, copied and hashed in turn: the disk has work early, and what is hashed is still in the cache. */
#define PIECE (4u << 20)

#define STATUS_GONE 1
#define STATUS_CHANGED 2

/* HEADER: a header alone. FILE: data and padding follow it. WHOLE: bytes that are a number of members already. */
enum kind { HEADER, FILE_DATA, WHOLE };

/* One operation as it comes from JavaScript: numbers, then `n_ranges` pairs of offset and length. */
struct op {
	double id, header_len, offset, data_len, n_ranges, kind, data_at; /* where its data is in `read`, or -1 */
};

struct batch {
	struct sf_job job;
	struct sf_tree *tree;
	int fd;
	const double *ops;
	size_t n_ops_words, count;
	const char *headers;
	size_t headers_len;
	const char *read; /* data of small files, read when they were described */
	size_t read_len;
	struct sf_digest *digest; /* NULL when nothing is to be hashed */
	bool ahead; /* of the freeze */
	/* The caller's, like all of the above: one of each for every operation. */
	int32_t *status;
	unsigned char *digests;
};

/* 0 when the open file is the entry as it was described; STATUS_CHANGED, or -errno. */
static int compare(struct sf_tree *tree, uint32_t id, int fd)
{
	struct sf_entry entry = *sf_entry_of(&tree->records, id);
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) != 0)
		return -errno;
	if (!S_ISREG(st.stx_mode))
		return STATUS_CHANGED;
	return sf_entry_update(&entry, &st) ? STATUS_CHANGED : 0;
}

static int copy_small(int fd, const double *ranges, size_t n_ranges, char *into)
{
	for (size_t i = 0; i < n_ranges; i++) {
		size_t len = (size_t)ranges[2 * i + 1], done = 0;
		while (done < len) {
			ssize_t got = pread(fd, into + done, len - done, (off_t)ranges[2 * i] + (off_t)done);
			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0)
				return -errno;
			if (got == 0)
				return STATUS_CHANGED;
			done += (size_t)got;
		}
		into += len;
	}
	return 0;
}

/* Of what has just been written. */
static void hash_written(struct sf_out *out, off_t at, uint64_t len, struct sf_digest *digest)
{
	for (off_t end = at + (off_t)len; at < end && !out->err;) {
		ssize_t got = pread(out->fd, out->bytes, end - at < HASHED_BYTES ? (size_t)(end - at) : HASHED_BYTES, at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			out->err = got == 0 ? EIO : errno;
		else
			sf_digest_update(digest, out->bytes, (size_t)got);
		at += got;
	}
}

/*
 * What is copied ahead of the freeze begins its way to the disk here, so that nobody has to wait for all of it at once.
 * A page that the next batch will write to again is left to that one.
 */
static void start_writing(struct batch *batch, off_t from, off_t to)
{
	from = from / PAGE * PAGE;
	to = to / PAGE * PAGE;
	if (to > from)
		sync_file_range(batch->fd, from, to - from, SYNC_FILE_RANGE_WRITE);
}

/*
 * Where blocks can be shared, and are asked for from the start of a page on, they are. Not ahead of the freeze: what is
 * shared is not in memory, and would be read from the disk to be hashed. So the first piece is a short one then.
 *
 * Hashing while copying by read and write was tried: one reading less, but on ext4 twice the kernel's own copy in all.
 */
static int copy_large(struct batch *batch, int fd, const double *ranges, size_t n_ranges, struct sf_out *out)
{
	for (size_t i = 0; i < n_ranges && !out->err; i++) {
		off_t from = (off_t)ranges[2 * i];
		for (uint64_t left = (uint64_t)ranges[2 * i + 1]; left > 0 && !out->err;) {
			uint64_t piece = !batch->ahead && !batch->digest ? left
				: batch->ahead && out->offset % PAGE == 0    ? BLOCK
															 : PIECE;
			uint64_t len = left < piece ? left : piece, copied;
			int status = sf_out_copy(out, fd, from, out->offset, len, &copied);
			if (status != 0)
				return status;
			if (copied < len)
				return STATUS_CHANGED;
			if (batch->ahead)
				start_writing(batch, out->offset, out->offset + (off_t)len);
			if (batch->digest)
				hash_written(out, out->offset, len, batch->digest);
			out->offset += (off_t)len;
			from += (off_t)len;
			left -= len;
		}
	}
	return 0;
}

static bool vanished(int err)
{
	return err == ENOENT || err == ENOTDIR || err == ELOOP || err == ESTALE || err == ENXIO;
}

/* Data and status of one file; the bytes after a failure are whatever was there: nobody keeps them. */
static int copy_data(
	struct batch *batch, struct sf_walk *walk, struct sf_out *out, const struct op *op, const double *ranges)
{
	uint32_t id = (uint32_t)op->id;
	size_t len = (size_t)op->data_len;
	int fd = sf_walk_open(walk, id);

	if (fd < 0)
		return vanished(-fd) ? STATUS_GONE : fd;
	double whole[2] = { 0, op->data_len };
	size_t n_ranges = (size_t)op->n_ranges;
	if (n_ranges == 0) {
		ranges = whole;
		n_ranges = len > 0 ? 1 : 0;
	}
	int status = compare(batch->tree, id, fd);
	if (status == 0 && op->data_len <= SMALL_BYTES) {
		char *into = sf_out_room(out, len);
		status = copy_small(fd, ranges, n_ranges, into);
		if (status != 0)
			memset(into, 0, len);
		else if (batch->digest)
			sf_digest_update(batch->digest, into, len);
	} else if (status == 0) {
		sf_out_flush(out);
		status = copy_large(batch, fd, ranges, n_ranges, out);
	}
	if (status == 0)
		status = compare(batch->tree, id, fd);
	close(fd);
	return status;
}

/* Header, data and padding of one entry, and its digests. Its status. */
static int copy_entry(struct batch *batch, struct sf_walk *walk, struct sf_out *out, const struct op *op,
	const char *header, unsigned char *digests)
{
	static const char zeros[BLOCK];
	const double *ranges = (const double *)(op + 1);
	size_t header_len = (size_t)op->header_len, data_len = op->kind == HEADER ? 0 : (size_t)op->data_len;
	size_t padding = (BLOCK - data_len % BLOCK) % BLOCK;
	int status = 0;

	sf_out_append(out, header, header_len);
	if (batch->digest)
		sf_digest_of(batch->digest, header, header_len, zeros, padding, digests);
	if (op->kind == FILE_DATA && op->data_at >= 0) {
		const char *data = batch->read + (size_t)op->data_at;
		sf_out_append(out, data, data_len);
		if (batch->digest)
			sf_digest_update(batch->digest, data, data_len);
	} else if (op->kind == FILE_DATA) {
		status = copy_data(batch, walk, out, op, ranges);
		/* However much of it was written. */
		sf_out_seek(out, (off_t)op->offset + (off_t)header_len + (off_t)data_len);
	}
	if (batch->digest)
		sf_digest_take(batch->digest, digests + SF_DIGEST);
	sf_out_append(out, zeros, padding);
	return status;
}

static void run(struct sf_job *job)
{
	struct batch *batch = (struct batch *)job;
	const char *header = batch->headers;
	const double *at = batch->ops;
	struct sf_walk walk;
	struct sf_out out;

	if (!sf_out_begin(&out, batch->fd)) {
		job->err = ENOMEM;
		return;
	}
	off_t first = (off_t)((const struct op *)at)->offset;
	sf_walk_begin(&walk, batch->tree);
	out.cancelled = &batch->tree->jobs.cancelled;
	for (size_t i = 0; i < batch->count && !out.err && !sf_tree_cancelled(batch->tree); i++) {
		const struct op *op = (const struct op *)at;

		sf_out_seek(&out, (off_t)op->offset);
		batch->status[i] = 0;
		if (op->kind == WHOLE)
			sf_out_append(&out, batch->read + (size_t)op->data_at, (size_t)op->data_len);
		else
			batch->status[i] = copy_entry(batch, &walk, &out, op, header, batch->digests + SF_MEMBER_DIGESTS * i);
		header += (size_t)op->header_len;
		at += sizeof(*op) / sizeof(double) + 2 * (size_t)op->n_ranges;
	}
	sf_walk_end(&walk);
	sf_out_end(&out);
	job->err = out.err;
	job->syscall = "write";
	if (sf_tree_cancelled(batch->tree))
		job->err = ECANCELED;
	if (batch->ahead && !out.err)
		start_writing(batch, first, out.offset);
}

static void release(struct sf_job *job)
{
	struct batch *batch = (struct batch *)job;

	if (batch->fd >= 0)
		close(batch->fd);
	if (batch->tree)
		sf_tree_job_done(batch->tree);
	sf_digest_free(batch->digest);
	free(batch);
}

/* How many operations there are, or 0 when their numbers do not add up to what was passed. */
static size_t count_ops(struct batch *batch)
{
	size_t words = sizeof(struct op) / sizeof(double), at = 0, count = 0;
	double headers = 0;

	while (at + words <= batch->n_ops_words) {
		const struct op *op = (const struct op *)(batch->ops + at);
		double sum = 0;
		if (op->n_ranges < 0 || op->n_ranges > (double)batch->n_ops_words || op->id < 0 ||
			op->id >= batch->tree->records.count)
			return 0;
		at += words;
		if (at + 2 * (size_t)op->n_ranges > batch->n_ops_words)
			return 0;
		for (size_t i = 0; i < (size_t)op->n_ranges; i++)
			sum += batch->ops[at + 2 * i + 1];
		if (op->n_ranges > 0 && sum != op->data_len)
			return 0;
		if (op->data_at + op->data_len > (double)batch->read_len && op->data_at >= 0)
			return 0;
		if (op->kind == WHOLE && op->data_at < 0)
			return 0;
		at += 2 * (size_t)op->n_ranges;
		headers += op->header_len;
		count++;
	}
	return at == batch->n_ops_words && headers == (double)batch->headers_len ? count : 0;
}

/*
 * copyBatch(fd, tree, ops: Float64Array, headers: Buffer, read: Buffer, status: Int32Array, digests: Buffer, hash,
 * ahead): a promise of a status for each, and with `hash` of two digests.
 */
static napi_value copy_batch(napi_env env, napi_callback_info info)
{
	size_t argc = 9, status_room, digests_room;
	napi_value argv[9];
	bool hash = false;
	int fd = -1;
	struct batch *batch = calloc(1, sizeof(*batch));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!batch)
		return sf_throw_errno(env, ENOMEM, "copy");
	batch->job = (struct sf_job){ .run = run, .release = release };
	batch->fd = -1;
	napi_get_value_int32(env, argv[0], &fd);
	batch->tree = sf_tree_of(env, argv[1]);
	napi_get_value_bool(env, argv[7], &hash);
	napi_get_value_bool(env, argv[8], &batch->ahead);
	if (!batch->tree ||
		napi_get_typedarray_info(env, argv[2], NULL, &batch->n_ops_words, (void **)&batch->ops, NULL, NULL) !=
			napi_ok ||
		napi_get_buffer_info(env, argv[3], (void **)&batch->headers, &batch->headers_len) != napi_ok ||
		napi_get_buffer_info(env, argv[4], (void **)&batch->read, &batch->read_len) != napi_ok ||
		napi_get_typedarray_info(env, argv[5], NULL, &status_room, (void **)&batch->status, NULL, NULL) != napi_ok ||
		napi_get_buffer_info(env, argv[6], (void **)&batch->digests, &digests_room) != napi_ok) {
		release(&batch->job);
		return NULL;
	}
	batch->count = count_ops(batch);
	bool fits = batch->count > 0 && batch->count <= status_room && batch->count * SF_MEMBER_DIGESTS <= digests_room;
	if (hash)
		batch->digest = sf_digest_new();
	if (!fits || (hash && !batch->digest)) {
		release(&batch->job);
		return sf_throw_errno(env, fits ? ENOMEM : EINVAL, "copy");
	}
	/* Its own: the caller may close the file while a thread that is held up still writes to it. */
	batch->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (batch->fd < 0) {
		int err = errno;
		release(&batch->job);
		return sf_throw_errno(env, err, "dup");
	}
	return sf_job_start_apart(env, &batch->tree->jobs, &batch->job, "stillframe:copy", &argv[1], 6);
}

void sf_init_copy(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "copyBatch", copy_batch);
}
