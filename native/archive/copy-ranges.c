/* For extracting: many ranges of the archive into files, in one trip to a thread. */
#include "../addon/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COPY_BUFFER (256 * 1024)
/* The kernel takes no more in one call; and no longer is a queue held up by one copy. */
#define COPY_STEP (1UL << 30)

struct range {
	double src_offset, dst_fd, dst_offset, length;
};

struct copies {
	struct sf_job job;
	int src_fd;
	size_t count;
	size_t failed_at;
	char *buffer;
	struct range ranges[];
};

static int copy_plain(struct copies *copies, int dst, off_t from, off_t to, size_t length)
{
	int err = 0;

	while (length > 0 && err == 0) {
		ssize_t got = pread(copies->src_fd, copies->buffer, length < COPY_BUFFER ? length : COPY_BUFFER, from);

		copies->job.syscall = "read";
		if (got == 0)
			err = ENODATA;
		if (got < 0 && errno != EINTR)
			err = errno;
		for (ssize_t put = 0; err == 0 && put < got;) {
			ssize_t n = pwrite(dst, copies->buffer + put, got - put, to + put);

			copies->job.syscall = "write";
			if (n < 0 && errno != EINTR)
				err = errno;
			if (n > 0)
				put += n;
		}
		if (got > 0) {
			from += got;
			to += got;
			length -= got;
		}
	}
	return err;
}

static int copy_one(struct copies *copies, const struct range *range)
{
	int dst = (int)range->dst_fd;
	off_t from = (off_t)range->src_offset;
	off_t to = (off_t)range->dst_offset;
	size_t length = (size_t)range->length;

	/*
	 * A small file costs copy_file_range, which goes through a pipe where it cannot share blocks, far more than a copy.
	 */
	if (length <= COPY_BUFFER)
		return copy_plain(copies, dst, from, to, length);
	while (length > 0) {
		ssize_t n = copy_file_range(copies->src_fd, &from, dst, &to, length < COPY_STEP ? length : COPY_STEP, 0);

		copies->job.syscall = "copy_file_range";
		if (n > 0) {
			length -= n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		/* Not between these two files; or 0, which some file systems answer although data is there. */
		if (n == 0 || errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)
			return copy_plain(copies, dst, from, to, length);
		return errno;
	}
	return 0;
}

static void run(struct sf_job *job)
{
	struct copies *copies = (struct copies *)job;

	copies->buffer = malloc(COPY_BUFFER);
	if (!copies->buffer)
		job->err = ENOMEM;
	for (size_t i = 0; i < copies->count && !job->err; i++) {
		copies->failed_at = i;
		job->err = copy_one(copies, &copies->ranges[i]);
	}
	free(copies->buffer);
}

static void explain(napi_env env, struct sf_job *job, napi_value error)
{
	napi_value index;

	napi_create_uint32(env, (uint32_t)((struct copies *)job)->failed_at, &index);
	napi_set_named_property(env, error, "range", index);
}

static void release(struct sf_job *job)
{
	free(job);
}

/* copyRanges(srcFd, Float64Array of (source offset, destination fd, destination offset, length)...): a promise */
static napi_value copy_ranges(napi_env env, napi_callback_info info)
{
	size_t argc = 2, length = 0;
	napi_value argv[2];
	napi_typedarray_type type;
	int src_fd;
	void *data;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (argc < 2 || napi_get_value_int32(env, argv[0], &src_fd) != napi_ok ||
		napi_get_typedarray_info(env, argv[1], &type, &length, &data, NULL, NULL) != napi_ok ||
		type != napi_float64_array || length % 4 != 0) {
		napi_throw_type_error(env, NULL, "copyRanges(srcFd, a Float64Array of four numbers a range)");
		return NULL;
	}
	struct copies *copies = calloc(1, sizeof(*copies) + length * sizeof(double));
	if (!copies)
		return sf_throw_errno(env, ENOMEM, "copyRanges");
	copies->job = (struct sf_job){ .run = run, .explain = explain, .release = release };
	copies->src_fd = src_fd;
	copies->count = length / 4;
	if (length > 0)
		memcpy(copies->ranges, data, length * sizeof(double));
	return sf_job_start(env, &copies->job, "stillframe:copyRanges", NULL, 0);
}

void sf_init_copy_ranges(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "copyRanges", copy_ranges);
}
