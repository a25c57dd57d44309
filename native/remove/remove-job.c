/* The removal in a thread: unlinking one large file can take the kernel longer than an event loop may stand still. */
#include "../addon/job.h"
#include "remove.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct removal {
	struct sf_job job;
	int directory;
	const int *cancelled;
	char name[NAME_MAX + 1]; /* '': all that is in the directory */
};

static void run(struct sf_job *job)
{
	struct removal *removal = (struct removal *)job;

	job->syscall = "unlinkat";
	job->err = removal->name[0] == '\0' ? remove_below(removal->directory, removal->cancelled)
										: remove_at(removal->directory, removal->name, removal->cancelled);
}

static void release(struct sf_job *job)
{
	free(job);
}

/*
 * removeAt(dirfd, name: Buffer, cancelled: Int32Array of one) -> Promise. An empty name: all that is in the directory.
 */
static napi_value remove_entry(napi_env env, napi_callback_info info)
{
	napi_value argv[3];
	size_t argc = 3, length = 0, words = 0;
	char *name = NULL;
	struct removal *removal;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	removal = calloc(1, sizeof(*removal));
	if (!removal)
		return sf_throw_errno(env, ENOMEM, "malloc");
	removal->job = (struct sf_job){ .run = run, .release = release };
	if (argc < 3 || napi_get_value_int32(env, argv[0], &removal->directory) != napi_ok ||
		napi_get_typedarray_info(env, argv[1], NULL, &length, (void **)&name, NULL, NULL) != napi_ok ||
		napi_get_typedarray_info(env, argv[2], NULL, &words, (void **)&removal->cancelled, NULL, NULL) != napi_ok ||
		words < 1) {
		free(removal);
		napi_throw_type_error(env, NULL, "removeAt(dirfd, name, cancelled)");
		return NULL;
	}
	if (length > NAME_MAX || (length > 0 && (memchr(name, 0, length) || memchr(name, '/', length)))) {
		free(removal);
		return sf_throw_errno(env, length > NAME_MAX ? ENAMETOOLONG : EINVAL, "unlinkat");
	}
	if (length > 0)
		memcpy(removal->name, name, length);
	return sf_job_start(env, &removal->job, "stillframe:remove", &argv[2], 1);
}

void sf_init_remove(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "removeAt", remove_entry);
}
