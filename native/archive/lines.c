/* Lines as `sha256sum` prints them, for many members at once. Source: coreutils 9.1, src/digest.c, print_filename. */
#include "lines.h"
#include "../addon/job.h"
#include "../tree/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 65536

static char *append_hex(char *out, const unsigned char *digest)
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < SF_DIGEST; i++) {
		*out++ = digits[digest[i] >> 4];
		*out++ = digits[digest[i] & 15];
	}
	return out;
}

/* What stands for this byte in an escaped name; 0 for the byte itself. */
static char escaped(char byte)
{
	return byte == '\\' ? '\\' : byte == '\n' ? 'n' : byte == '\r' ? 'r' : 0;
}

char *sf_append_line(char *out, const unsigned char *digest, const char *name, size_t len)
{
	char *line = out++;
	bool any = false;

	out = append_hex(out, digest);
	*out++ = ' ';
	*out++ = ' ';
	for (size_t i = 0; i < len; i++) {
		char as = escaped(name[i]);
		if (as) {
			*out++ = '\\';
			any = true;
		}
		*out++ = as ? as : name[i];
	}
	*out++ = '\n';
	*line = '\\';
	if (any)
		return out;
	memmove(line, line + 1, (size_t)(out - line) - 1);
	return out - 1;
}

struct lines {
	struct sf_job job;
	struct sf_tree *tree;
	const char *prefix;
	size_t prefix_len;
	const uint32_t *ids, *rows;
	size_t n_ids;
	const unsigned char *digests;
	size_t digests_len;
	char *name; /* the prefix, and room for a path behind it */
	char *into; /* the caller's */
	size_t room, used, done;
};

/* As many as there is room for. 0, or an errno. */
static int append_lines(struct lines *lines)
{
	for (size_t i = 0; i < lines->n_ids; i++, lines->done++) {
		if (lines->ids[i] >= lines->tree->records.count ||
			(lines->rows[i] + 1ull) * SF_MEMBER_DIGESTS > lines->digests_len)
			return EINVAL;
		int len = sf_path_of(&lines->tree->records, lines->ids[i], lines->name + lines->prefix_len, PATH_BYTES);
		if (len < 0)
			return EINVAL;
		/* The prefix ends in a slash, which the root itself goes without. */
		size_t name_len = len == 0 ? lines->prefix_len - 1 : lines->prefix_len + (size_t)len;
		if (lines->used + SF_LINE_MORE + 2 * name_len > lines->room)
			break;
		char *start = lines->into + lines->used;
		char *end = sf_append_line(
			start, lines->digests + (size_t)lines->rows[i] * SF_MEMBER_DIGESTS + SF_DIGEST, lines->name, name_len);
		lines->used += (size_t)(end - start);
	}
	return lines->done == 0 && lines->n_ids > 0 ? ENOBUFS : 0;
}

static void run(struct sf_job *job)
{
	struct lines *lines = (struct lines *)job;

	job->err = append_lines(lines);
}

static napi_value result(napi_env env, struct sf_job *job)
{
	struct lines *lines = (struct lines *)job;
	napi_value value, number;

	napi_create_array_with_length(env, 2, &value);
	napi_create_double(env, (double)lines->done, &number);
	napi_set_element(env, value, 0, number);
	napi_create_double(env, (double)lines->used, &number);
	napi_set_element(env, value, 1, number);
	return value;
}

static void release(struct sf_job *job)
{
	struct lines *lines = (struct lines *)job;

	free(lines->name);
	free(lines);
}

/*
 * memberLines(tree, prefix, ids: Uint32Array, rows: Uint32Array, digests, into: Buffer): puts a line for each id, its
 * data's digest at its row, into the buffer; a promise of how many had room, and of their bytes. The prefix ends in a
 * slash, which the root itself goes without.
 */
static napi_value member_lines(napi_env env, napi_callback_info info)
{
	size_t argc = 6, n_rows;
	napi_value argv[6];
	struct lines *lines = calloc(1, sizeof(*lines));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!lines)
		return sf_throw_errno(env, ENOMEM, "memberLines");
	lines->job = (struct sf_job){ .run = run, .result = result, .release = release };
	lines->tree = sf_tree_of(env, argv[0]);
	if (!lines->tree || napi_get_buffer_info(env, argv[1], (void **)&lines->prefix, &lines->prefix_len) != napi_ok ||
		napi_get_typedarray_info(env, argv[2], NULL, &lines->n_ids, (void **)&lines->ids, NULL, NULL) != napi_ok ||
		napi_get_typedarray_info(env, argv[3], NULL, &n_rows, (void **)&lines->rows, NULL, NULL) != napi_ok ||
		napi_get_buffer_info(env, argv[4], (void **)&lines->digests, &lines->digests_len) != napi_ok ||
		napi_get_buffer_info(env, argv[5], (void **)&lines->into, &lines->room) != napi_ok) {
		release(&lines->job);
		return NULL;
	}
	lines->name = malloc(lines->prefix_len + PATH_BYTES);
	if (!lines->name || n_rows != lines->n_ids) {
		int err = lines->name ? EINVAL : ENOMEM;
		release(&lines->job);
		return sf_throw_errno(env, err, "memberLines");
	}
	memcpy(lines->name, lines->prefix, lines->prefix_len);
	return sf_job_start(env, &lines->job, "stillframe:lines", argv, 6);
}

void sf_init_lines(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "memberLines", member_lines);
}
