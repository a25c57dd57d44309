/* A promise that a thread of libuv's pool keeps: the first member of whatever is worked on there. */
#ifndef STILLFRAME_JOB_H
#define STILLFRAME_JOB_H

#include "addon.h"

#include <stddef.h>

#define SF_JOB_KEEPS 7

struct sf_job {
	/* On the thread. A failure is left in `err` and `syscall`. */
	void (*run)(struct sf_job *job);
	/* What the promise resolves with; NULL for undefined. */
	napi_value (*result)(napi_env env, struct sf_job *job);
	/* Frees all of it, the job too. */
	void (*release)(struct sf_job *job);
	int err;
	const char *syscall;

	napi_async_work work;
	napi_deferred deferred;
	napi_ref keeps[SF_JOB_KEEPS];
	size_t n_keeps;
};

/* Queues the job, which is released when it is done. `keeps`: at most SF_JOB_KEEPS objects whose memory it uses until then. */
napi_value sf_job_start(napi_env env, struct sf_job *job, const char *name, const napi_value *keeps, size_t n_keeps);

#endif
