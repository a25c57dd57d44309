/*
 * Copies entries of a tree into a file at given places: header, data, padding. Small files go through one
 * buffer and are written a megabyte at a time; large ones are copied by the kernel. The stat is compared
 * before and after: what changed in between is said, never hidden.
 */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 512
#define BUFFER_BYTES (1024 * 1024)
#define SMALL_BYTES (128 * 1024)
#define HASHED_BYTES (256 * 1024)
#define CHUNK_BYTES ((size_t)64 * 1024 * 1024)

#define STATUS_GONE 1
#define STATUS_CHANGED 2

/* One operation as it comes from JavaScript: numbers, then `n_ranges` pairs of offset and length. */
struct op {
	double id, header_len, offset, data_len, n_ranges, has_data, data_at; /* where its data is in `records`, or -1 */
};

/* Bytes on their way into the file, which go there in one piece as long as each follows the last. */
struct out {
	int fd;
	char *bytes;
	size_t len;
	off_t offset;
	int err;
};

static void write_all(struct out *out, const char *bytes, size_t len, off_t offset)
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

static void flush(struct out *out)
{
	write_all(out, out->bytes, out->len, out->offset);
	out->offset += (off_t)out->len;
	out->len = 0;
}

static void seek_to(struct out *out, off_t offset)
{
	if (out->offset + (off_t)out->len == offset)
		return;
	flush(out);
	out->offset = offset;
}

/* Room for `len` bytes at the buffer's end; `len` is at most BUFFER_BYTES. */
static char *room(struct out *out, size_t len)
{
	if (out->len + len > BUFFER_BYTES)
		flush(out);
	char *at = out->bytes + out->len;
	out->len += len;
	return at;
}

static void append(struct out *out, const char *bytes, size_t len)
{
	if (len > BUFFER_BYTES) {
		flush(out);
		write_all(out, bytes, len, out->offset);
		out->offset += (off_t)len;
		return;
	}
	memcpy(room(out, len), bytes, len);
}

static bool kernel_cannot(int err)
{
	return err == EXDEV || err == EINVAL || err == EOPNOTSUPP || err == ENOSYS || err == EPERM || err == EBADF || err == ETXTBSY;
}

/* Through a buffer: where the kernel cannot copy between the two, or the ranges lie too near each other. */
static ssize_t copy_buffered(int from, off_t from_offset, struct out *out, off_t to_offset, size_t len)
{
	ssize_t got = pread(from, out->bytes, len < BUFFER_BYTES ? len : BUFFER_BYTES, from_offset);
	if (got > 0)
		write_all(out, out->bytes, (size_t)got, to_offset);
	return got;
}

/* 0, or -errno of the source. An error of the target is left in `out->err`. `*copied` is short at the source's end. */
static int copy_range(int from, off_t from_offset, struct out *out, off_t to_offset, uint64_t len, uint64_t *copied)
{
	bool buffered = false;

	*copied = 0;
	while (*copied < len && !out->err) {
		off_t at = from_offset + (off_t)*copied, to = to_offset + (off_t)*copied;
		size_t want = len - *copied < CHUNK_BYTES ? (size_t)(len - *copied) : CHUNK_BYTES;
		ssize_t got = buffered ? copy_buffered(from, at, out, to, want) : copy_file_range(from, &at, out->fd, &to, want, 0);
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

struct batch {
	napi_async_work work;
	napi_deferred deferred;
	napi_ref keep[4];
	struct sf_tree *tree;
	int fd;
	const double *ops;
	size_t n_ops_words, count;
	const char *headers;
	size_t headers_len;
	const char *records; /* data of small files, read when they were described */
	size_t records_len;
	EVP_MD_CTX *digest; /* NULL when nothing is to be hashed */
	int32_t *status;
	unsigned char *digests;
	int err;
	const char *syscall;
};

/* 0 when the open file is the entry as it was described; STATUS_CHANGED, or -errno. */
static int compare(struct sf_tree *tree, uint32_t id, int fd)
{
	struct sf_entry entry = *sf_entry_at(tree, id);
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
static void hash_written(struct out *out, off_t at, uint64_t len, EVP_MD_CTX *digest)
{
	for (off_t end = at + (off_t)len; at < end && !out->err;) {
		ssize_t got = pread(out->fd, out->bytes, end - at < HASHED_BYTES ? (size_t)(end - at) : HASHED_BYTES, at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			out->err = got == 0 ? EIO : errno;
		else
			EVP_DigestUpdate(digest, out->bytes, (size_t)got);
		at += got;
	}
}

/* Hashing while copying by read and write was tried: one reading less, but on ext4 twice the kernel's own copy in all. */
static int copy_large(int fd, const double *ranges, size_t n_ranges, struct out *out, EVP_MD_CTX *digest)
{
	for (size_t i = 0; i < n_ranges && !out->err; i++) {
		uint64_t len = (uint64_t)ranges[2 * i + 1], copied;
		int status = copy_range(fd, (off_t)ranges[2 * i], out, out->offset, len, &copied);
		if (status != 0)
			return status;
		if (copied < len)
			return STATUS_CHANGED;
		if (digest)
			hash_written(out, out->offset, len, digest);
		out->offset += (off_t)len;
	}
	return 0;
}

static bool vanished(int err)
{
	return err == ENOENT || err == ENOTDIR || err == ELOOP || err == ESTALE || err == ENXIO;
}

/* Data and status of one file; the bytes after a failure are whatever was there: nobody keeps them. */
static int copy_data(struct batch *batch, struct sf_walk *walk, struct out *out, const struct op *op, const double *ranges, unsigned char *digest)
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
	if (batch->digest)
		EVP_DigestInit_ex(batch->digest, NULL, NULL);
	if (status == 0 && op->data_len <= SMALL_BYTES) {
		char *into = room(out, len);
		status = copy_small(fd, ranges, n_ranges, into);
		if (status != 0)
			memset(into, 0, len);
		else if (batch->digest)
			EVP_DigestUpdate(batch->digest, into, len);
	} else if (status == 0) {
		flush(out);
		status = copy_large(fd, ranges, n_ranges, out, batch->digest);
	}
	if (status == 0)
		status = compare(batch->tree, id, fd);
	close(fd);
	if (status == 0 && batch->digest)
		EVP_DigestFinal_ex(batch->digest, digest, NULL);
	return status;
}

static void execute(napi_env env, void *data)
{
	struct batch *batch = data;
	struct out out = { .fd = batch->fd, .bytes = malloc(BUFFER_BYTES) };
	const char *header = batch->headers;
	const double *at = batch->ops;
	static const char zeros[BLOCK];
	struct sf_walk walk;

	if (!out.bytes) {
		batch->err = ENOMEM;
		batch->syscall = "copy";
		return;
	}
	sf_walk_begin(&walk, batch->tree);
	for (size_t i = 0; i < batch->count && !out.err; i++) {
		const struct op *op = (const struct op *)at;
		const double *ranges = at + sizeof(*op) / sizeof(double);
		off_t data_at = (off_t)op->offset + (off_t)op->header_len;

		at = ranges + 2 * (size_t)op->n_ranges;
		seek_to(&out, (off_t)op->offset);
		append(&out, header, (size_t)op->header_len);
		header += (size_t)op->header_len;
		if (!op->has_data)
			continue;
		if (op->data_at >= 0)
			append(&out, batch->records + (size_t)op->data_at, (size_t)op->data_len);
		else
			batch->status[i] = copy_data(batch, &walk, &out, op, ranges, batch->digests + 32 * i);
		off_t end = data_at + (off_t)op->data_len;
		seek_to(&out, end);
		append(&out, zeros, (size_t)((BLOCK - end % BLOCK) % BLOCK));
	}
	flush(&out);
	if (out.err) {
		batch->err = out.err;
		batch->syscall = "write";
	}
	sf_walk_end(&walk);
	free(out.bytes);
}

static void complete(napi_env env, napi_status status, void *data)
{
	struct batch *batch = data;
	napi_value result;
	char *out;

	if (status != napi_ok || batch->err) {
		napi_reject_deferred(env, batch->deferred, sf_errno_error(env, status != napi_ok ? ECANCELED : batch->err, batch->err ? batch->syscall : "copy"));
	} else {
		napi_create_buffer(env, batch->count * 36, (void **)&out, &result);
		memcpy(out, batch->status, batch->count * 4);
		memcpy(out + batch->count * 4, batch->digests, batch->count * 32);
		napi_resolve_deferred(env, batch->deferred, result);
	}
	for (int i = 0; i < 4; i++)
		napi_delete_reference(env, batch->keep[i]);
	napi_delete_async_work(env, batch->work);
	EVP_MD_CTX_free(batch->digest);
	free(batch->status);
	free(batch->digests);
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
		if (op->n_ranges < 0 || op->n_ranges > (double)batch->n_ops_words || op->id < 0 || op->id >= batch->tree->n_entries)
			return 0;
		at += words;
		if (at + 2 * (size_t)op->n_ranges > batch->n_ops_words)
			return 0;
		for (size_t i = 0; i < (size_t)op->n_ranges; i++)
			sum += batch->ops[at + 2 * i + 1];
		if (op->n_ranges > 0 && sum != op->data_len)
			return 0;
		if (op->data_at + op->data_len > (double)batch->records_len && op->data_at >= 0)
			return 0;
		at += 2 * (size_t)op->n_ranges;
		headers += op->header_len;
		count++;
	}
	return at == batch->n_ops_words && headers == (double)batch->headers_len ? count : 0;
}

/* copyBatch(fd, tree, ops: Float64Array, headers: Buffer, records: Buffer, hash): a promise of one 32-bit status each, then one digest each. */
static napi_value copy_batch(napi_env env, napi_callback_info info)
{
	size_t argc = 6;
	napi_value argv[6], promise, name;
	bool hash = false;
	struct batch *batch = calloc(1, sizeof(*batch));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!batch)
		return sf_throw_errno(env, ENOMEM, "copy");
	napi_get_value_int32(env, argv[0], &batch->fd);
	batch->tree = sf_tree_of(env, argv[1]);
	napi_get_value_bool(env, argv[5], &hash);
	if (!batch->tree || napi_get_typedarray_info(env, argv[2], NULL, &batch->n_ops_words, (void **)&batch->ops, NULL, NULL) != napi_ok ||
	    napi_get_buffer_info(env, argv[3], (void **)&batch->headers, &batch->headers_len) != napi_ok ||
	    napi_get_buffer_info(env, argv[4], (void **)&batch->records, &batch->records_len) != napi_ok) {
		free(batch);
		return NULL;
	}
	batch->count = count_ops(batch);
	batch->status = calloc(batch->count + 1, sizeof(*batch->status));
	batch->digests = calloc(batch->count + 1, 32);
	if (hash)
		batch->digest = EVP_MD_CTX_new();
	if (batch->count == 0 || !batch->status || !batch->digests || (hash && (!batch->digest || EVP_DigestInit_ex(batch->digest, EVP_sha256(), NULL) != 1))) {
		int err = batch->count == 0 ? EINVAL : ENOMEM;
		EVP_MD_CTX_free(batch->digest);
		free(batch->status);
		free(batch->digests);
		free(batch);
		return sf_throw_errno(env, err, "copy");
	}
	napi_create_promise(env, &batch->deferred, &promise);
	for (int i = 0; i < 4; i++)
		napi_create_reference(env, argv[i + 1], 1, &batch->keep[i]);
	napi_create_string_utf8(env, "stillframe:copy", NAPI_AUTO_LENGTH, &name);
	napi_create_async_work(env, NULL, name, execute, complete, batch, &batch->work);
	napi_queue_async_work(env, batch->work);
	return promise;
}

struct move {
	napi_async_work work;
	napi_deferred deferred;
	napi_ref keep;
	int from, to;
	const double *triples; /* from, to, length */
	size_t count;
	int err;
	const char *syscall;
};

static void execute_move(napi_env env, void *data)
{
	struct move *move = data;
	struct out out = { .fd = move->to, .bytes = malloc(BUFFER_BYTES) };

	move->syscall = "copy_file_range";
	if (!out.bytes)
		move->err = ENOMEM;
	for (size_t i = 0; i < move->count && !move->err; i++) {
		const double *triple = move->triples + 3 * i;
		off_t from = (off_t)triple[0], to = (off_t)triple[1];
		uint64_t left = (uint64_t)triple[2];
		/* Within one file the kernel copies only ranges that do not overlap, and short ones cost a call each. */
		uint64_t gap = move->from == move->to ? (uint64_t)(from - to) : UINT64_MAX;
		while (left > 0 && !move->err) {
			uint64_t want = left < gap ? left : gap, copied = 0;
			int status = 0;
			if (gap < BUFFER_BYTES) {
				ssize_t got = copy_buffered(move->from, from, &out, to, left < BUFFER_BYTES ? (size_t)left : BUFFER_BYTES);
				status = got < 0 ? -errno : 0;
				copied = got > 0 ? (uint64_t)got : 0;
			} else {
				status = copy_range(move->from, from, &out, to, want, &copied);
			}
			move->err = out.err ? out.err : status ? -status : copied == 0 ? EIO : 0;
			from += (off_t)copied;
			to += (off_t)copied;
			left -= copied;
		}
	}
	free(out.bytes);
}

static void complete_move(napi_env env, napi_status status, void *data)
{
	struct move *move = data;
	napi_value undefined;

	napi_get_undefined(env, &undefined);
	if (status != napi_ok || move->err)
		napi_reject_deferred(env, move->deferred, sf_errno_error(env, status != napi_ok ? ECANCELED : move->err, move->syscall));
	else
		napi_resolve_deferred(env, move->deferred, undefined);
	napi_delete_reference(env, move->keep);
	napi_delete_async_work(env, move->work);
	free(move);
}

/* moveRanges(from, to, triples: Float64Array): from one file into another, or down within one, in ascending order. */
static napi_value move_ranges(napi_env env, napi_callback_info info)
{
	size_t argc = 3;
	napi_value argv[3], promise, name;
	struct move *move = calloc(1, sizeof(*move));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!move)
		return sf_throw_errno(env, ENOMEM, "moveRanges");
	napi_get_value_int32(env, argv[0], &move->from);
	napi_get_value_int32(env, argv[1], &move->to);
	if (napi_get_typedarray_info(env, argv[2], NULL, &move->count, (void **)&move->triples, NULL, NULL) != napi_ok) {
		free(move);
		return NULL;
	}
	move->count /= 3;
	napi_create_promise(env, &move->deferred, &promise);
	napi_create_reference(env, argv[2], 1, &move->keep);
	napi_create_string_utf8(env, "stillframe:move", NAPI_AUTO_LENGTH, &name);
	napi_create_async_work(env, NULL, name, execute_move, complete_move, move, &move->work);
	napi_queue_async_work(env, move->work);
	return promise;
}

void sf_init_copy(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "copyBatch", copy_batch);
	sf_set_function(env, exports, "moveRanges", move_ranges);
}
