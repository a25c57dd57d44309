#include "tree.h"

#include "../archive/details.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const napi_type_tag tree_tag = { 0x5f1c7a3e90b24d68ULL, 0xa1d4e6f8275b3c90ULL };

/* What `treeNews` tells of. */
#define NEWS_ADDED 0
#define NEWS_CHANGED 1
#define NEWS_REMOVED 2

#define BITS_BYTES (SF_MAX_ENTRIES / 8)

static void unwatch(struct sf_tree *tree)
{
	if (tree->watch)
		sf_watch_stop(tree->watch);
	tree->watch = NULL;
}

/* How long the end of an environment (a worker's, or the process's) waits for threads that have been told to stop. */
#define END_MS 1000
static void cancel_jobs(void *data)
{
	struct sf_tree *tree = data;

	atomic_store(&tree->jobs.cancelled, true);
	sf_group_settle(&tree->jobs, END_MS);
}

static void release_tree(struct sf_tree *tree)
{
	sf_bits *tables[] = { tree->alive, tree->before, tree->changed, tree->listed };

	unwatch(tree);
	if (tree->root_fd >= 0)
		close(tree->root_fd);
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
		if (tables[i])
			munmap((void *)tables[i], BITS_BYTES);
	sf_records_free(&tree->records);
	sf_group_end(&tree->jobs);
	pthread_mutex_destroy(&tree->lock);
	free(tree);
}

/* A thread that a file system holds up may still use it: then it stays for good. */
static void free_tree(napi_env env, void *data, void *hint)
{
	struct sf_tree *tree = data;

	napi_remove_env_cleanup_hook(env, cancel_jobs, tree);
	if (sf_group_settle(&tree->jobs, 0))
		release_tree(tree);
}

/* Lets go of the directory; of one that a job uses when that is done. */
static void close_tree(struct sf_tree *tree)
{
	if (tree->jobs.jobs) {
		tree->closing = true;
		return;
	}
	unwatch(tree);
	if (tree->root_fd >= 0) {
		close(tree->root_fd);
		tree->root_fd = -1;
	}
}

void sf_tree_job_done(struct sf_tree *tree)
{
	if (tree->closing)
		close_tree(tree);
}

struct sf_tree *sf_tree_of(napi_env env, napi_value value)
{
	bool is_tree = false;
	void *data = NULL;

	if (napi_check_object_type_tag(env, value, &tree_tag, &is_tree) != napi_ok || !is_tree ||
		napi_unwrap(env, value, &data) != napi_ok) {
		napi_throw_type_error(env, NULL, "not a tree");
		return NULL;
	}
	return data;
}

/* treeCreate() */
static napi_value tree_create(napi_env env, napi_callback_info info)
{
	napi_value object;
	struct sf_tree *tree = calloc(1, sizeof(*tree));

	if (!tree)
		return sf_throw_errno(env, ENOMEM, "treeCreate");
	pthread_mutex_init(&tree->lock, NULL);
	sf_group_begin(&tree->jobs);
	tree->root_fd = -1;
	bool ok = sf_records_begin(&tree->records);
	tree->alive = sf_reserve(BITS_BYTES);
	tree->before = sf_reserve(BITS_BYTES);
	tree->changed = sf_reserve(BITS_BYTES);
	tree->listed = sf_reserve(BITS_BYTES);
	if (!ok || !tree->alive || !tree->before || !tree->changed || !tree->listed) {
		release_tree(tree);
		return sf_throw_errno(env, ENOMEM, "treeCreate");
	}
	napi_create_object(env, &object);
	napi_wrap(env, object, tree, free_tree, NULL, NULL);
	napi_type_tag_object(env, object, &tree_tag);
	napi_add_env_cleanup_hook(env, cancel_jobs, tree);
	return object;
}

/* The first argument. */
static struct sf_tree *tree_argument(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value argv[1];

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	return sf_tree_of(env, argv[0]);
}

/* Lets go of the directory; the entries stay readable. */
static napi_value tree_close(napi_env env, napi_callback_info info)
{
	struct sf_tree *tree = tree_argument(env, info);

	if (tree)
		close_tree(tree);
	return NULL;
}

/* treeCancel(tree): what is under way with the tree's files fails, as soon as it can. */
static napi_value tree_cancel(napi_env env, napi_callback_info info)
{
	struct sf_tree *tree = tree_argument(env, info);

	if (tree)
		atomic_store(&tree->jobs.cancelled, true);
	return NULL;
}

/* treeAbandon(tree): nobody waits for it any more. */
static napi_value tree_abandon(napi_env env, napi_callback_info info)
{
	struct sf_tree *tree = tree_argument(env, info);

	if (tree)
		sf_group_abandon(env, &tree->jobs);
	return NULL;
}

struct start_watch {
	struct sf_job job;
	struct sf_tree *tree;
	int32_t *ignored; /* the caller's */
	size_t count;
	struct sf_watch *watch;
};

static void start_watch_run(struct sf_job *job)
{
	struct start_watch *start = (struct start_watch *)job;

	start->watch = sf_watch_start(start->tree->root_fd, &job->err);
	for (size_t i = 0; start->watch && i < start->count; i++)
		sf_watch_ignore(start->watch, start->ignored[i]);
}

static napi_value start_watch_result(napi_env env, struct sf_job *job)
{
	struct start_watch *start = (struct start_watch *)job;
	napi_value value;

	unwatch(start->tree);
	start->tree->watch = start->watch;
	start->watch = NULL;
	napi_get_undefined(env, &value);
	return value;
}

static void start_watch_release(struct sf_job *job)
{
	struct start_watch *start = (struct start_watch *)job;

	if (start->watch)
		sf_watch_stop(start->watch);
	if (start->tree)
		sf_tree_job_done(start->tree);
	free(start);
}

/* treeWatch(tree, ignored: file descriptors): a promise; from the next scan on. */
static napi_value tree_watch(napi_env env, napi_callback_info info)
{
	size_t argc = 2;
	napi_value argv[2];
	struct start_watch *start = calloc(1, sizeof(*start));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!start)
		return sf_throw_errno(env, ENOMEM, "treeWatch");
	start->job =
		(struct sf_job){ .run = start_watch_run, .result = start_watch_result, .release = start_watch_release };
	start->tree = sf_tree_of(env, argv[0]);
	if (!start->tree ||
		napi_get_typedarray_info(env, argv[1], NULL, &start->count, (void **)&start->ignored, NULL, NULL) != napi_ok) {
		start_watch_release(&start->job);
		return NULL;
	}
	return sf_job_start_apart(env, &start->tree->jobs, &start->job, "stillframe:watch", argv, 2);
}

/* treeRoot(tree, fd): what the next scan looks at, opened with O_PATH; the tree's from here on. */
static napi_value tree_root(napi_env env, napi_callback_info info)
{
	size_t argc = 2;
	napi_value argv[2];
	int fd = -1;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (!tree || napi_get_value_int32(env, argv[1], &fd) != napi_ok)
		return NULL;
	if (tree->jobs.jobs)
		return sf_throw_errno(env, EBUSY, "treeRoot");
	if (tree->root_fd >= 0)
		close(tree->root_fd);
	tree->root_fd = fd;
	return NULL;
}

/* treeUnwatch(tree) */
static napi_value tree_unwatch(napi_env env, napi_callback_info info)
{
	struct sf_tree *tree = tree_argument(env, info);

	if (tree)
		unwatch(tree);
	return NULL;
}

/* treePath(tree, id, into: Buffer): how many bytes the path below the root has, put there. */
static napi_value tree_path(napi_env env, napi_callback_info info)
{
	size_t argc = 3, room;
	napi_value argv[3], value;
	uint32_t id = 0;
	char *out;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (!tree || napi_get_value_uint32(env, argv[1], &id) != napi_ok ||
		napi_get_buffer_info(env, argv[2], (void **)&out, &room) != napi_ok)
		return NULL;
	int len = id < tree->records.count ? sf_path_of(&tree->records, id, out, room) : -1;
	if (len < 0)
		return sf_throw_errno(env, ENAMETOOLONG, "treePath");
	napi_create_uint32(env, (uint32_t)len, &value);
	return value;
}

static int compare_ino(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

struct find {
	struct sf_job job;
	struct sf_tree *tree;
	uint64_t *inodes; /* the caller's */
	size_t count;
	struct sf_bytes ids;
};

static void find_run(struct sf_job *job)
{
	struct find *find = (struct find *)job;

	qsort(find->inodes, find->count, sizeof(*find->inodes), compare_ino);
	for (uint32_t id = 0; id < find->tree->records.count; id++) {
		if (!sf_bit(find->tree->alive, id))
			continue;
		const struct sf_entry *entry = sf_entry_of(&find->tree->records, id);
		if (bsearch(&entry->ino, find->inodes, find->count, sizeof(*find->inodes), compare_ino))
			sf_bytes_append(&find->ids, &id, sizeof(id));
	}
	if (find->ids.failed)
		job->err = ENOMEM;
}

static napi_value find_result(napi_env env, struct sf_job *job)
{
	struct find *find = (struct find *)job;
	napi_value value;

	napi_create_buffer_copy(env, find->ids.len, find->ids.at, NULL, &value);
	return value;
}

static void find_release(struct sf_job *job)
{
	free(((struct find *)job)->ids.at);
	free(job);
}

/*
 * treeFind(tree, inodes: BigUint64Array, sorted in place): a promise of the ids, 32 bits each, of the living entries
 * with such an inode number.
 */
static napi_value tree_find(napi_env env, napi_callback_info info)
{
	size_t argc = 2;
	napi_value argv[2];
	struct find *find = calloc(1, sizeof(*find));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!find)
		return sf_throw_errno(env, ENOMEM, "treeFind");
	find->job = (struct sf_job){ .run = find_run, .result = find_result, .release = find_release };
	find->tree = sf_tree_of(env, argv[0]);
	if (!find->tree ||
		napi_get_typedarray_info(env, argv[1], NULL, &find->count, (void **)&find->inodes, NULL, NULL) != napi_ok) {
		find_release(&find->job);
		return NULL;
	}
	return sf_job_start(env, &find->job, "stillframe:find", argv, 2);
}

/*
 * treeNews(tree, what, from, ids: Uint32Array): how many ids from this one on were found (as many as there is room
 * for).
 */
static napi_value tree_news(napi_env env, napi_callback_info info)
{
	size_t argc = 4, room;
	napi_value argv[4], value;
	uint32_t what = 0, from = 0, count = 0, *ids;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (!tree || napi_get_typedarray_info(env, argv[3], NULL, &room, (void **)&ids, NULL, NULL) != napi_ok)
		return NULL;
	napi_get_value_uint32(env, argv[1], &what);
	napi_get_value_uint32(env, argv[2], &from);
	for (uint32_t word = from >> 6; word <= (tree->records.count - 1) >> 6 && tree->records.count > 0 && count < room;
		 word++) {
		uint64_t bits = what == NEWS_ADDED ? tree->alive[word] & ~tree->before[word]
			: what == NEWS_REMOVED         ? tree->before[word] & ~tree->alive[word]
										   : tree->changed[word];
		if (word == from >> 6)
			bits &= ~0ull << (from & 63);
		for (; bits && count < room; bits &= bits - 1)
			ids[count++] = word << 6 | (uint32_t)__builtin_ctzll(bits);
	}
	napi_create_uint32(env, count, &value);
	return value;
}

void sf_init_tree(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "treeWatch", tree_watch);
	sf_set_function(env, exports, "treeUnwatch", tree_unwatch);
	sf_set_function(env, exports, "treeCreate", tree_create);
	sf_set_function(env, exports, "treeClose", tree_close);
	sf_set_function(env, exports, "treeCancel", tree_cancel);
	sf_set_function(env, exports, "treeAbandon", tree_abandon);
	sf_set_function(env, exports, "treeRoot", tree_root);
	sf_set_function(env, exports, "treePath", tree_path);
	sf_set_function(env, exports, "treeFind", tree_find);
	sf_set_function(env, exports, "treeNews", tree_news);
}
