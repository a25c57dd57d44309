/*
 * A promise that a thread keeps: the first member of whatever is worked on there. The thread is one of libuv's pool;
 * or, for work on the files of others, which a file system can hold up for ever, one of its own. Of the pool's there
 * are four, all of the process's files go through them, and Node.js waits for them at its end.
 */
#ifndef STILLFRAME_JOB_H
#define STILLFRAME_JOB_H

#include "addon.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define SF_JOB_KEEPS 7

struct sf_job {
	/* On the thread. A failure is left in `err` and `syscall`. */
	void (*run)(struct sf_job *job);
	/* What the promise resolves with; NULL for undefined. It may still fail, as `run` does. */
	napi_value (*result)(napi_env env, struct sf_job *job);
	/* Adds to the error that the promise rejects with; NULL for nothing. */
	void (*explain)(napi_env env, struct sf_job *job, napi_value error);
	/* Frees all of it, the job too. */
	void (*release)(struct sf_job *job);
	int err;
	const char *syscall;
	/* Of one with a thread of its own: it does not keep the process alive. */
	bool background;

	napi_async_work work;
	/* Of one with a thread of its own: its group, and who comes next to it there. */
	struct sf_group *group;
	struct sf_job *next, *before;
	napi_threadsafe_function done;
	napi_deferred deferred;
	napi_ref keeps[SF_JOB_KEEPS];
	size_t n_keeps;
};

/*
 * Queues the job, which is released when it is done. `keeps`: at most SF_JOB_KEEPS objects whose memory it uses until
 * then.
 */
napi_value sf_job_start(napi_env env, struct sf_job *job, const char *name, const napi_value *keeps, size_t n_keeps);

/* Jobs with threads of their own that use the same memory and descriptors, which must not go while they do. */
struct sf_group {
	/* Asked by the jobs between two steps: what they do is of no use any more. */
	_Atomic bool cancelled;
	/* The main thread's: those that have not been completed. */
	struct sf_job *jobs;
	pthread_mutex_t lock;
	pthread_cond_t idle;
	unsigned running; /* of the threads */
};

void sf_group_begin(struct sf_group *group);
/*
 * Waits for at most so long until no thread is in one of its jobs; false when one still is, and what it uses must stay.
 */
bool sf_group_settle(struct sf_group *group, int timeout_ms);
void sf_group_end(struct sf_group *group);
/* Nobody waits for its jobs any more: they do not keep the process alive. */
void sf_group_abandon(napi_env env, struct sf_group *group);

/* The same as sf_job_start, in a thread of its own. A job of a cancelled group fails with ECANCELED. */
napi_value sf_job_start_apart(napi_env env, struct sf_group *group, struct sf_job *job, const char *name,
	const napi_value *keeps, size_t n_keeps);

#endif
