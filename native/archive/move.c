/* Moves ranges from one file into another, or down within one. */
#include "../addon/job.h"
#include "out.h"

#include <errno.h>
#include <stdlib.h>

struct move {
	struct sf_job job;
	int from, to;
	const double *triples; /* from, to, length */
	size_t count;
};

/* 0, or an errno. */
static int move_range(struct sf_out *out, int file, off_t from, off_t to, uint64_t left)
{
	/* Within one file the kernel copies only ranges that do not overlap, and short ones cost a call each. */
	uint64_t gap = file == out->fd ? (uint64_t)(from - to) : UINT64_MAX;

	while (left > 0) {
		uint64_t want = left < gap ? left : gap, copied = 0;
		int status = 0;
		if (gap < SF_OUT_BYTES) {
			ssize_t got = sf_out_copy_buffered(out, file, from, to, left < SF_OUT_BYTES ? (size_t)left : SF_OUT_BYTES);
			status = got < 0 ? -errno : 0;
			copied = got > 0 ? (uint64_t)got : 0;
		} else {
			status = sf_out_copy(out, file, from, to, want, &copied);
		}
		if (out->err || status || copied == 0)
			return out->err ? out->err : status ? -status : EIO;
		from += (off_t)copied;
		to += (off_t)copied;
		left -= copied;
	}
	return 0;
}

static void run(struct sf_job *job)
{
	struct move *move = (struct move *)job;
	struct sf_out out;

	if (!sf_out_begin(&out, move->to)) {
		job->err = ENOMEM;
		return;
	}
	job->syscall = "copy_file_range";
	for (size_t i = 0; i < move->count && !job->err; i++) {
		const double *triple = move->triples + 3 * i;
		job->err = move_range(&out, move->from, (off_t)triple[0], (off_t)triple[1], (uint64_t)triple[2]);
	}
	sf_out_end(&out);
}

static void release(struct sf_job *job)
{
	free(job);
}

/* moveRanges(from, to, triples: Float64Array): in ascending order. */
static napi_value move_ranges(napi_env env, napi_callback_info info)
{
	size_t argc = 3;
	napi_value argv[3];
	struct move *move = calloc(1, sizeof(*move));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!move)
		return sf_throw_errno(env, ENOMEM, "moveRanges");
	move->job = (struct sf_job){ .run = run, .release = release };
	napi_get_value_int32(env, argv[0], &move->from);
	napi_get_value_int32(env, argv[1], &move->to);
	if (napi_get_typedarray_info(env, argv[2], NULL, &move->count, (void **)&move->triples, NULL, NULL) != napi_ok) {
		free(move);
		return NULL;
	}
	move->count /= 3;
	return sf_job_start(env, &move->job, "stillframe:move", &argv[2], 1);
}

void sf_init_move(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "moveRanges", move_ranges);
}
