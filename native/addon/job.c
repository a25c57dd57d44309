#include "job.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

static void execute(napi_env env, void *data)
{
	struct sf_job *job = data;

	job->run(job);
}

/* Settles the promise and frees the job. */
static void finish(napi_env env, struct sf_job *job)
{
	napi_value value = NULL;

	if (job->err == 0) {
		napi_get_undefined(env, &value);
		if (job->result)
			value = job->result(env, job);
	}
	if (job->err == 0) {
		napi_resolve_deferred(env, job->deferred, value);
	} else {
		value = sf_errno_error(env, job->err, job->syscall);
		if (job->explain)
			job->explain(env, job, value);
		napi_reject_deferred(env, job->deferred, value);
	}
	for (size_t i = 0; i < job->n_keeps; i++)
		napi_delete_reference(env, job->keeps[i]);
	job->release(job);
}

static void complete(napi_env env, napi_status status, void *data)
{
	struct sf_job *job = data;

	if (status != napi_ok)
		job->err = ECANCELED;
	napi_delete_async_work(env, job->work);
	finish(env, job);
}

/* The promise, and what the job needs until it is kept. */
static napi_value promise_of(
	napi_env env, struct sf_job *job, const char *name, const napi_value *keeps, size_t n_keeps)
{
	napi_value promise;

	job->syscall = name;
	job->n_keeps = n_keeps;
	napi_create_promise(env, &job->deferred, &promise);
	for (size_t i = 0; i < n_keeps; i++)
		napi_create_reference(env, keeps[i], 1, &job->keeps[i]);
	return promise;
}

napi_value sf_job_start(napi_env env, struct sf_job *job, const char *name, const napi_value *keeps, size_t n_keeps)
{
	napi_value promise = promise_of(env, job, name, keeps, n_keeps), resource;

	napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &resource);
	napi_create_async_work(env, NULL, resource, execute, complete, job, &job->work);
	napi_queue_async_work(env, job->work);
	return promise;
}

void sf_group_begin(struct sf_group *group)
{
	pthread_condattr_t attr;

	atomic_init(&group->cancelled, false);
	pthread_mutex_init(&group->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&group->idle, &attr);
	pthread_condattr_destroy(&attr);
}

bool sf_group_settle(struct sf_group *group, int timeout_ms)
{
	struct timespec until;
	int err = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&group->lock);
	while (group->running > 0 && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&group->idle, &group->lock, &until);
	bool idle = group->running == 0;
	pthread_mutex_unlock(&group->lock);
	return idle;
}

void sf_group_end(struct sf_group *group)
{
	pthread_mutex_destroy(&group->lock);
	pthread_cond_destroy(&group->idle);
}

void sf_group_abandon(napi_env env, struct sf_group *group)
{
	for (struct sf_job *job = group->jobs; job; job = job->next)
		napi_unref_threadsafe_function(env, job->done);
}

static void leave(struct sf_job *job)
{
	if (job->next)
		job->next->before = job->before;
	if (job->before)
		job->before->next = job->next;
	else
		job->group->jobs = job->next;
}

static void *run_apart(void *arg)
{
	struct sf_job *job = arg;
	struct sf_group *group = job->group;
	napi_threadsafe_function done = job->done;

	if (atomic_load(&group->cancelled))
		job->err = ECANCELED;
	else
		job->run(job);
	/* The job and its group are the main thread's from the call on, which fails where that has ended. */
	pthread_mutex_lock(&group->lock);
	group->running--;
	pthread_cond_broadcast(&group->idle);
	pthread_mutex_unlock(&group->lock);
	napi_call_threadsafe_function(done, job, napi_tsfn_nonblocking);
	napi_release_threadsafe_function(done, napi_tsfn_release);
	return NULL;
}

/* On the main thread. Without an environment there is nobody left to tell. */
static void complete_apart(napi_env env, napi_value callback, void *context, void *data)
{
	struct sf_job *job = data;

	if (!env)
		return;
	leave(job);
	finish(env, job);
}

/* Detached, and with all signals blocked: none that comes to the process must be handled there. */
static int start_thread(struct sf_job *job)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int err = pthread_create(&thread, &attr, run_apart, job);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return err;
}

napi_value sf_job_start_apart(
	napi_env env, struct sf_group *group, struct sf_job *job, const char *name, const napi_value *keeps, size_t n_keeps)
{
	napi_value promise = promise_of(env, job, name, keeps, n_keeps), resource;

	napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &resource);
	napi_create_threadsafe_function(env, NULL, NULL, resource, 0, 1, NULL, NULL, NULL, complete_apart, &job->done);
	if (job->background)
		napi_unref_threadsafe_function(env, job->done);
	job->group = group;
	job->before = NULL;
	job->next = group->jobs;
	if (job->next)
		job->next->before = job;
	group->jobs = job;
	pthread_mutex_lock(&group->lock);
	group->running++;
	pthread_mutex_unlock(&group->lock);
	int err = start_thread(job);
	if (err) {
		pthread_mutex_lock(&group->lock);
		group->running--;
		pthread_mutex_unlock(&group->lock);
		napi_release_threadsafe_function(job->done, napi_tsfn_abort);
		job->err = err;
		leave(job);
		finish(env, job);
	}
	return promise;
}
