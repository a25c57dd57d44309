/* Lines as `sha256sum` prints them, for many members at once. Source: coreutils 9.1, src/digest.c, print_filename. */
#include "digest.h"
#include "tree.h"

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

/* At most 1 + 64 + 2 + twice the name + 1 bytes. A name with something to escape has a backslash before its line. */
static char *append_line(char *out, const unsigned char *digest, const char *name, size_t len)
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

/*
 * memberLines(tree, prefix, ids: Uint32Array, rows: Uint32Array, digests): a line for each id, its data's digest at its row.
 * The prefix ends in a slash, which the root itself goes without.
 */
static napi_value member_lines(napi_env env, napi_callback_info info)
{
	size_t argc = 5, prefix_len, n_ids, n_rows, digests_len, total = 0;
	napi_value argv[5], result = NULL;
	const unsigned char *digests;
	const uint32_t *ids, *rows;
	const char *prefix;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (!tree || napi_get_buffer_info(env, argv[1], (void **)&prefix, &prefix_len) != napi_ok ||
	    napi_get_typedarray_info(env, argv[2], NULL, &n_ids, (void **)&ids, NULL, NULL) != napi_ok ||
	    napi_get_typedarray_info(env, argv[3], NULL, &n_rows, (void **)&rows, NULL, NULL) != napi_ok ||
	    napi_get_buffer_info(env, argv[4], (void **)&digests, &digests_len) != napi_ok)
		return NULL;
	char *name = malloc(prefix_len + PATH_BYTES), *lines = NULL, *out;
	for (size_t i = 0; name && i < n_ids; i++) {
		int len = i < n_rows && ids[i] < tree->n_entries && (rows[i] + 1ull) * SF_MEMBER_DIGESTS <= digests_len ? sf_tree_path(tree, ids[i], name, PATH_BYTES) : -1;
		if (len < 0) {
			free(name);
			return sf_throw_errno(env, EINVAL, "memberLines");
		}
		total += 1 + 2 * SF_DIGEST + 2 + 2 * (prefix_len + (size_t)len) + 1;
	}
	lines = out = malloc(total + 1);
	if (name && lines) {
		memcpy(name, prefix, prefix_len);
		for (size_t i = 0; i < n_ids; i++) {
			int len = sf_tree_path(tree, ids[i], name + prefix_len, PATH_BYTES);
			size_t name_len = len == 0 ? prefix_len - 1 : prefix_len + (size_t)len;
			out = append_line(out, digests + (size_t)rows[i] * SF_MEMBER_DIGESTS + SF_DIGEST, name, name_len);
		}
		napi_create_buffer_copy(env, (size_t)(out - lines), lines, NULL, &result);
	} else {
		sf_throw_errno(env, ENOMEM, "memberLines");
	}
	free(name);
	free(lines);
	return result;
}

void sf_init_lines(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "memberLines", member_lines);
}
