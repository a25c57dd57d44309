/*
 * SHA-256 of byte ranges of a file, on libuv's threads: of each alone, or of all as one. The digest is the one inside Node.js itself
 * (its OpenSSL): no worker to start, no file of its own for a bundler to lose, and the CPU's instructions for it.
 */
#include "addon.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNK_BYTES (256 * 1024)

struct hash {
	napi_async_work work;
	napi_deferred deferred;
	napi_ref keep;
	int fd;
	double *ranges; /* offset and length of each */
	size_t count;
	bool each;
	unsigned char *digests;
	int err;
};

static int hash_range(struct hash *job, EVP_MD_CTX *context, unsigned char *buffer, off_t offset, uint64_t length)
{
	while (length > 0) {
		ssize_t got = pread(job->fd, buffer, length < CHUNK_BYTES ? length : CHUNK_BYTES, offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0 ? EIO : errno;
		EVP_DigestUpdate(context, buffer, (size_t)got);
		offset += got;
		length -= (uint64_t)got;
	}
	return 0;
}

static void execute(napi_env env, void *data)
{
	struct hash *job = data;
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char *buffer = malloc(CHUNK_BYTES);

	if (!context || !buffer || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
		job->err = ENOMEM;
	for (size_t i = 0; i < job->count && !job->err; i++) {
		job->err = hash_range(job, context, buffer, (off_t)job->ranges[2 * i], (uint64_t)job->ranges[2 * i + 1]);
		if (!job->each || job->err)
			continue;
		EVP_DigestFinal_ex(context, job->digests + 32 * i, NULL);
		EVP_DigestInit_ex(context, NULL, NULL);
	}
	if (!job->err && !job->each)
		EVP_DigestFinal_ex(context, job->digests, NULL);
	EVP_MD_CTX_free(context);
	free(buffer);
}

static void complete(napi_env env, napi_status status, void *data)
{
	struct hash *job = data;
	napi_value result;

	if (status != napi_ok || job->err) {
		napi_reject_deferred(env, job->deferred, sf_errno_error(env, status != napi_ok ? ECANCELED : job->err, "pread"));
	} else {
		napi_create_buffer_copy(env, 32 * (job->each ? job->count : 1), job->digests, NULL, &result);
		napi_resolve_deferred(env, job->deferred, result);
	}
	napi_delete_reference(env, job->keep);
	napi_delete_async_work(env, job->work);
	free(job->digests);
	free(job);
}

/* hashRanges(fd, ranges: Float64Array, each): a promise of one SHA-256 over all ranges, or of one for each. */
static napi_value hash_ranges(napi_env env, napi_callback_info info)
{
	size_t argc = 3;
	napi_value argv[3], promise, name;
	struct hash *job = calloc(1, sizeof(*job));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!job)
		return sf_throw_errno(env, ENOMEM, "hashRanges");
	napi_get_value_int32(env, argv[0], &job->fd);
	if (napi_get_typedarray_info(env, argv[1], NULL, &job->count, (void **)&job->ranges, NULL, NULL) != napi_ok) {
		free(job);
		return NULL;
	}
	job->count /= 2;
	napi_get_value_bool(env, argv[2], &job->each);
	job->digests = malloc(32 * (job->count + 1));
	if (!job->digests) {
		free(job);
		return sf_throw_errno(env, ENOMEM, "hashRanges");
	}
	napi_create_promise(env, &job->deferred, &promise);
	napi_create_reference(env, argv[1], 1, &job->keep);
	napi_create_string_utf8(env, "stillframe:hash", NAPI_AUTO_LENGTH, &name);
	napi_create_async_work(env, NULL, name, execute, complete, job, &job->work);
	napi_queue_async_work(env, job->work);
	return promise;
}

void sf_init_hash(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "hashRanges", hash_ranges);
}
