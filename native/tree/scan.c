/*
 * A parallel scan on threads of its own, compared with the last scan while it runs, so that a second scan costs its
 * system calls and little more. Symbolic links are never followed below the root.
 *
 * Where the kernel has told what happened since the last scan began (watch.h), only that is looked at: directories
 * whose names came or went are read again with all that they name, other inodes told of are looked at by each of their
 * names, and what is known of the rest is true still.
 */
#include "scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* What lives now lived before, and nothing has been seen yet. */
static void begin_bits(struct sf_tree *tree)
{
	sf_bits *alive = tree->before;
	size_t bytes = (tree->records.count + 63ull) / 64 * sizeof(*alive);

	tree->before = tree->alive;
	tree->alive = alive;
	memset(tree->alive, 0, bytes);
	memset(tree->changed, 0, bytes);
	memset(tree->listed, 0, bytes);
}

/* Whether the path, if there is one, still names what is held open. */
static bool is_root(const struct sf_tree *tree, const char *path)
{
	int flags = AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC;
	struct statx held, named;

	return path[0] == '\0' ||
		(statx(tree->root_fd, "", flags | AT_EMPTY_PATH, STATX_INO, &held) == 0 &&
			statx(AT_FDCWD, path, flags, STATX_INO, &named) == 0 && held.stx_ino == named.stx_ino &&
			held.stx_dev_major == named.stx_dev_major && held.stx_dev_minor == named.stx_dev_minor);
}

static void run(struct sf_job *job)
{
	struct sf_scan *scan = (struct sf_scan *)job;
	struct sf_tree *tree = scan->tree;
	uint32_t root;

	if (!is_root(tree, scan->path)) {
		job->err = ESTALE;
		job->syscall = "root";
		return;
	}
	begin_bits(tree);
	/* What happens from here on is the next scan's. */
	scan->told = tree->watch && sf_watch_take(tree->watch, &scan->changes);
	if ((tree->records.count == 0 && !sf_records_add(&tree->records, SF_ROOT, "", 0, &root)) || !sf_scan_run(scan)) {
		job->err = ENOMEM;
		job->syscall = "scan";
	}
	if (sf_tree_cancelled(tree))
		job->err = ECANCELED;
}

/*
 * Counts of each list, the size of all files new or changed (two words), whether changes were told, entries looked at,
 * 0 or one more than an entry that changed unnoticed, a bit for each pattern that left something out, then the lists.
 */
static napi_value result(napi_env env, struct sf_job *job)
{
	struct sf_scan *scan = (struct sf_scan *)job;
	uint32_t n_crossings = scan->crossings.count, n_errors = scan->errors.count, n_hot = scan->hottest.count,
			 n_fs = scan->tree->n_fs;
	uint32_t n_hits = SF_MAX_EXCLUDE_PARTS / 32, at = 9;
	uint32_t words = at + n_hits + n_crossings + n_errors + n_hot + n_fs * 3;
	uint32_t *out;
	napi_value value;

	napi_create_buffer(env, (size_t)words * 4, (void **)&out, &value);
	uint32_t head[] = { n_crossings, n_errors, n_hot, n_fs, (uint32_t)scan->bytes, (uint32_t)(scan->bytes >> 32),
		scan->told, scan->looks, scan->unnoticed };
	memcpy(out, head, sizeof(head));
	for (uint32_t i = 0; i < n_hits; i++)
		out[at++] = scan->excludes.hits[i];
	if (n_crossings > 0)
		memcpy(out + at, scan->crossings.items, n_crossings * 4);
	at += n_crossings;
	if (n_errors > 0)
		memcpy(out + at, scan->errors.items, n_errors * 4);
	at += n_errors;
	/* The latest at the very end. */
	for (uint32_t i = n_hot; i > 0; i--)
		out[at++] = scan->hottest.items[i - 1].id;
	for (uint32_t i = 0; i < n_fs; i++) {
		out[at++] = scan->tree->fs[i].dev;
		out[at++] = scan->tree->fs[i].type;
		out[at++] = scan->tree->fs[i].sample;
	}
	return value;
}

static void release(struct sf_job *job)
{
	struct sf_scan *scan = (struct sf_scan *)job;

	if (scan->tree)
		sf_tree_job_done(scan->tree);
	sf_inodes_free(&scan->changes);
	free(scan->crossings.items);
	free(scan->errors.items);
	free(scan->hottest.items);
	free(scan->stack);
	free(scan->path);
	free(scan->exclude_text);
	pthread_mutex_destroy(&scan->lock);
	pthread_cond_destroy(&scan->wake);
	free(scan);
}

static napi_value option(napi_env env, napi_value options, const char *name)
{
	napi_value value = NULL;

	napi_get_named_property(env, options, name, &value);
	return value;
}

/* NUL-terminated; NULL when it is no Buffer, or memory runs out. */
static char *copy_bytes(napi_env env, napi_value value, size_t *len)
{
	void *bytes;

	if (napi_get_buffer_info(env, value, &bytes, len) != napi_ok)
		return NULL;
	char *text = malloc(*len + 1);
	if (!text)
		return NULL;
	/* An empty Buffer has no bytes to point to. */
	if (*len > 0)
		memcpy(text, bytes, *len);
	text[*len] = '\0';
	return text;
}

static bool add_changes(napi_env env, napi_value inodes, struct sf_inodes *changes)
{
	uint64_t *items;
	size_t count;
	bool ok = napi_get_typedarray_info(env, inodes, NULL, &count, (void **)&items, NULL, NULL) == napi_ok;

	for (size_t i = 0; ok && i < count; i++)
		ok = sf_inodes_add(changes, items[i]);
	return ok;
}

/* False when one is missing or of another type, or memory runs out. */
static bool take_options(napi_env env, napi_value options, struct sf_scan *scan)
{
	size_t path_len, exclude_len;

	scan->path = copy_bytes(env, option(env, options, "path"), &path_len);
	scan->exclude_text = copy_bytes(env, option(env, options, "excludes"), &exclude_len);
	if (!scan->path || !scan->exclude_text || !sf_excludes_parse(&scan->excludes, scan->exclude_text, exclude_len) ||
		napi_get_value_uint32(env, option(env, options, "threads"), &scan->threads) != napi_ok ||
		napi_get_value_int64(env, option(env, options, "hotSinceSec"), &scan->hot_since_sec) != napi_ok ||
		napi_get_value_bool(env, option(env, options, "oneFileSystem"), &scan->one_file_system) != napi_ok ||
		napi_get_value_double(env, option(env, options, "stillSinceMs"), &scan->still_since_ms) != napi_ok)
		return false;
	if (scan->threads < 1)
		scan->threads = 1;
	if (scan->threads > SF_MAX_THREADS)
		scan->threads = SF_MAX_THREADS;
	return add_changes(env, option(env, options, "inodes"), &scan->changes);
}

/* treeScan(tree, options): src/native-files.ts has them. */
static napi_value tree_scan(napi_env env, napi_callback_info info)
{
	size_t argc = 2;
	napi_value argv[2];
	struct sf_scan *scan = calloc(1, sizeof(*scan));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!scan)
		return sf_throw_errno(env, ENOMEM, "scan");
	scan->job = (struct sf_job){ .run = run, .result = result, .release = release };
	pthread_mutex_init(&scan->lock, NULL);
	pthread_cond_init(&scan->wake, NULL);
	scan->tree = sf_tree_of(env, argv[0]);
	if (!scan->tree || !take_options(env, argv[1], scan)) {
		bool pending = false;
		release(&scan->job);
		napi_is_exception_pending(env, &pending);
		return pending ? NULL : sf_throw_errno(env, EINVAL, "scan");
	}
	return sf_job_start_apart(env, &scan->tree->jobs, &scan->job, "stillframe:scan", argv, 1);
}

void sf_init_scan(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "treeScan", tree_scan);
}
