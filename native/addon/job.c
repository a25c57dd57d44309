#include "job.h"

#include <errno.h>

static void execute(napi_env env, void *data)
{
	struct sf_job *job = data;

	job->run(job);
}

static void complete(napi_env env, napi_status status, void *data)
{
	struct sf_job *job = data;
	napi_value value;

	if (status != napi_ok)
		job->err = ECANCELED;
	if (job->err != 0) {
		napi_reject_deferred(env, job->deferred, sf_errno_error(env, job->err, job->syscall));
	} else {
		napi_get_undefined(env, &value);
		if (job->result)
			value = job->result(env, job);
		napi_resolve_deferred(env, job->deferred, value);
	}
	for (size_t i = 0; i < job->n_keeps; i++)
		napi_delete_reference(env, job->keeps[i]);
	napi_delete_async_work(env, job->work);
	job->release(job);
}

napi_value sf_job_start(napi_env env, struct sf_job *job, const char *name, const napi_value *keeps, size_t n_keeps)
{
	napi_value promise, resource;

	job->syscall = name;
	job->n_keeps = n_keeps;
	napi_create_promise(env, &job->deferred, &promise);
	for (size_t i = 0; i < n_keeps; i++)
		napi_create_reference(env, keeps[i], 1, &job->keeps[i]);
	napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &resource);
	napi_create_async_work(env, NULL, resource, execute, complete, job, &job->work);
	napi_queue_async_work(env, job->work);
	return promise;
}
