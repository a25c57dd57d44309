/* SHA-256 of members of a file, headers and data apart, on libuv's threads. */
#include "digest.h"
#include "../addon/job.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK 512
#define CHUNK_BYTES (256 * 1024)

struct hash {
	struct sf_job job;
	int fd;
	const double *numbers; /* offset, bytes of header, bytes of data, of each member */
	size_t count;
	unsigned char *digests; /* the caller's */
};

/* 0, or an errno. */
static int hash_range(int fd, struct sf_digest *digest, unsigned char *buffer, off_t offset, uint64_t length)
{
	while (length > 0) {
		ssize_t got = pread(fd, buffer, length < CHUNK_BYTES ? length : CHUNK_BYTES, offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0 ? EIO : errno;
		sf_digest_update(digest, buffer, (size_t)got);
		offset += got;
		length -= (uint64_t)got;
	}
	return 0;
}

static int hash_members(const struct hash *hash, struct sf_digest *digest, unsigned char *buffer)
{
	int err = 0;

	for (size_t i = 0; i < hash->count && !err; i++) {
		const double *member = hash->numbers + 3 * i;
		off_t header = (off_t)member[0], data = header + (off_t)member[1], end = data + (off_t)member[2];
		unsigned char *digests = hash->digests + SF_MEMBER_DIGESTS * i;

		err = hash_range(hash->fd, digest, buffer, header, (uint64_t)(data - header));
		if (!err)
			err = hash_range(hash->fd, digest, buffer, end, (uint64_t)((BLOCK - (end - data) % BLOCK) % BLOCK));
		sf_digest_take(digest, digests);
		if (!err)
			err = hash_range(hash->fd, digest, buffer, data, (uint64_t)(end - data));
		sf_digest_take(digest, digests + SF_DIGEST);
	}
	return err;
}

static void run(struct sf_job *job)
{
	struct sf_digest *digest = sf_digest_new();
	unsigned char *buffer = malloc(CHUNK_BYTES);

	job->syscall = "pread";
	job->err = digest && buffer ? hash_members((struct hash *)job, digest, buffer) : ENOMEM;
	sf_digest_free(digest);
	free(buffer);
}

static void release(struct sf_job *job)
{
	free(job);
}

/*
 * hashMembers(fd, members: Float64Array, digests: Buffer): a promise of two digests each, of header with padding, and
 * of data.
 */
static napi_value sf_hash_members(napi_env env, napi_callback_info info)
{
	size_t argc = 3, numbers, room;
	napi_value argv[3];
	struct hash *hash = calloc(1, sizeof(*hash));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!hash)
		return sf_throw_errno(env, ENOMEM, "hash");
	hash->job = (struct sf_job){ .run = run, .release = release };
	napi_get_value_int32(env, argv[0], &hash->fd);
	if (napi_get_typedarray_info(env, argv[1], NULL, &numbers, (void **)&hash->numbers, NULL, NULL) != napi_ok ||
		napi_get_buffer_info(env, argv[2], (void **)&hash->digests, &room) != napi_ok) {
		release(&hash->job);
		return NULL;
	}
	hash->count = numbers / 3;
	if (room < SF_MEMBER_DIGESTS * hash->count) {
		release(&hash->job);
		return sf_throw_errno(env, EINVAL, "hash");
	}
	return sf_job_start(env, &hash->job, "stillframe:hash", &argv[1], 2);
}

void sf_init_hash(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "hashMembers", sf_hash_members);
}
