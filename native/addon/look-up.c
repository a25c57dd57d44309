/*
 * Which files paths lead to, asked in a thread that can be left behind: the server of a file (FUSE, NFS) may not
 * answer. What is asked for is what the kernel knows by itself, so that it hardly ever has to ask a server.
 */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct found {
	uint64_t dev; /* as makedev(3) has it */
	uint64_t ino;
	uint64_t mode;
	uint64_t err;
	uint64_t size;
	uint64_t mtime_ns;
	uint64_t ctime_ns;
};

struct look_up {
	struct sf_job job;
	/* Its own: nobody else shares what it uses. */
	struct sf_group group;
	bool follow;
	bool stamps; /* size and times too, as stat(2) has them: a server may be asked */
	size_t count;
	char *paths; /* each with its terminating zero */
	struct found *found;
};

/* Signed, in two's complement. */
static uint64_t nanoseconds(struct statx_timestamp time)
{
	return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void run(struct sf_job *job)
{
	struct look_up *look_up = (struct look_up *)job;
	int flags = AT_NO_AUTOMOUNT | (look_up->stamps ? AT_STATX_SYNC_AS_STAT : AT_STATX_DONT_SYNC) |
		(look_up->follow ? 0 : AT_SYMLINK_NOFOLLOW);
	unsigned int mask = STATX_TYPE | STATX_INO | (look_up->stamps ? STATX_SIZE | STATX_MTIME | STATX_CTIME : 0);
	const char *path = look_up->paths;

	for (size_t i = 0; i < look_up->count; i++, path += strlen(path) + 1) {
		struct statx st;

		if (statx(AT_FDCWD, path, flags, mask, &st) != 0)
			look_up->found[i].err = (uint64_t)errno;
		else
			look_up->found[i] = (struct found){ .dev = makedev(st.stx_dev_major, st.stx_dev_minor),
				.ino = st.stx_ino,
				.mode = st.stx_mode,
				.size = st.stx_size,
				.mtime_ns = nanoseconds(st.stx_mtime),
				.ctime_ns = nanoseconds(st.stx_ctime) };
	}
}

static napi_value result(napi_env env, struct sf_job *job)
{
	const struct look_up *look_up = (struct look_up *)job;
	napi_value value;

	napi_create_buffer_copy(env, look_up->count * sizeof(*look_up->found), look_up->found, NULL, &value);
	return value;
}

static void release(struct sf_job *job)
{
	struct look_up *look_up = (struct look_up *)job;

	sf_group_end(&look_up->group);
	free(look_up->paths);
	free(look_up->found);
	free(look_up);
}

/*
 * lookUp(paths: Buffer, follow, stamps): a promise of seven 64-bit numbers for each path. It does not keep the process
 * alive.
 */
static napi_value start(napi_env env, napi_callback_info info)
{
	size_t argc = 3, length = 0;
	struct look_up *look_up = calloc(1, sizeof(*look_up));
	char *paths = NULL;
	napi_value argv[3];

	if (!look_up)
		return sf_throw_errno(env, ENOMEM, "lookUp");
	look_up->job = (struct sf_job){ .run = run, .result = result, .release = release, .background = true };
	sf_group_begin(&look_up->group);
	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (napi_get_buffer_info(env, argv[0], (void **)&paths, &length) != napi_ok ||
		napi_get_value_bool(env, argv[1], &look_up->follow) != napi_ok ||
		napi_get_value_bool(env, argv[2], &look_up->stamps) != napi_ok || (length > 0 && paths[length - 1] != '\0')) {
		release(&look_up->job);
		napi_throw_type_error(env, NULL, "lookUp(paths, follow, stamps)");
		return NULL;
	}
	for (size_t i = 0; i < length; i++)
		look_up->count += paths[i] == '\0';
	look_up->paths = malloc(length + 1);
	look_up->found = calloc(look_up->count + 1, sizeof(*look_up->found));
	if (!look_up->paths || !look_up->found) {
		release(&look_up->job);
		return sf_throw_errno(env, ENOMEM, "lookUp");
	}
	if (length > 0)
		memcpy(look_up->paths, paths, length);
	return sf_job_start_apart(env, &look_up->group, &look_up->job, "stillframe:lookUp", NULL, 0);
}

void sf_init_look_up(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "lookUp", start);
}
