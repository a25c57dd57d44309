/*
 * A parallel scan: getdents64 and statx on threads of its own, compared with the last scan while it runs,
 * so that a second scan costs its system calls and little more. Symbolic links are never followed below
 * the root. A name that vanishes between the two calls is simply not there: the next scan tells.
 */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x2000
#endif

#define DENTS_BYTES 65536
/* A directory's names are handed to other threads from this many on. */
#define SHARE_AT 256
#define MAX_EXCLUDES 64
#define MAX_THREADS 16

struct list {
	uint32_t *items;
	uint32_t count, room;
};

/* An open directory whose children are still being looked at. */
struct dirref {
	atomic_int refs;
	int fd;
	uint32_t id;
	uint8_t fs;
	uint32_t dev;
	uint64_t excludes; /* the exclusions that lie below it */
	uint32_t depth;
};

struct item {
	struct dirref *dir; /* of a directory to read: its parent, NULL for the root */
	uint32_t id; /* the directory to read; unused when there are `ids` */
	uint64_t excludes;
	uint32_t *ids; /* entries to look at, or NULL */
	uint32_t count;
};

struct exclude {
	char *parts[64];
	uint32_t count;
};

struct scan {
	napi_async_work work;
	napi_deferred deferred;
	napi_ref keep;
	struct sf_tree *tree;
	char *path;
	uint32_t threads;
	bool one_file_system;
	int64_t hot_since_sec;
	char *exclude_text;
	struct exclude excludes[MAX_EXCLUDES];
	uint32_t n_excludes;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct item *stack;
	uint32_t depth, room, busy;
	bool out_of_memory;

	struct list added, changed, removed, crossings, errors;
	uint64_t bytes;
	int err;
	const char *syscall;
};

struct worker {
	struct scan *scan;
	struct list added, changed, crossings, errors;
	uint64_t bytes;
	pthread_t thread;
	bool started;
};

static bool push(struct list *list, uint32_t value)
{
	if (list->count == list->room) {
		uint32_t room = list->room ? list->room * 2 : 256;
		uint32_t *items = realloc(list->items, room * sizeof(*items));
		if (!items)
			return false;
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = value;
	return true;
}

static void fail_memory(struct scan *scan)
{
	pthread_mutex_lock(&scan->lock);
	scan->out_of_memory = true;
	pthread_cond_broadcast(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
}

static void note(struct worker *worker, struct list *list, uint32_t value)
{
	if (!push(list, value))
		fail_memory(worker->scan);
}

static void note_error(struct worker *worker, uint32_t id, int err)
{
	/* Gone, or another kind of file now: not an error of a tree that lives. */
	if (err == ENOENT || err == ENOTDIR || err == ELOOP || err == ESTALE)
		return;
	note(worker, &worker->errors, id);
	note(worker, &worker->errors, (uint32_t)err);
}

static void unref(struct dirref *dir)
{
	if (dir && atomic_fetch_sub(&dir->refs, 1) == 1) {
		close(dir->fd);
		free(dir);
	}
}

static struct dirref *ref(struct dirref *dir)
{
	if (dir)
		atomic_fetch_add(&dir->refs, 1);
	return dir;
}

/* Last in, first out: few directories are open at a time, however wide the tree is. */
static void give(struct scan *scan, struct item item)
{
	pthread_mutex_lock(&scan->lock);
	if (scan->depth == scan->room) {
		uint32_t room = scan->room ? scan->room * 2 : 64;
		struct item *stack = realloc(scan->stack, room * sizeof(*stack));
		if (!stack) {
			scan->out_of_memory = true;
			pthread_mutex_unlock(&scan->lock);
			free(item.ids);
			unref(item.dir);
			return;
		}
		scan->stack = stack;
		scan->room = room;
	}
	scan->stack[scan->depth++] = item;
	pthread_cond_signal(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
}

/* The exclusions below this child; `*whole` when the child itself is one. */
static uint64_t excluded(struct scan *scan, struct dirref *dir, const char *name, bool *whole)
{
	uint64_t below = 0;

	*whole = false;
	for (uint64_t rest = dir->excludes; rest; rest &= rest - 1) {
		uint32_t at = (uint32_t)__builtin_ctzll(rest);
		struct exclude *exclude = &scan->excludes[at];
		if (strcmp(exclude->parts[dir->depth], name) != 0)
			continue;
		if (exclude->count == dir->depth + 1)
			*whole = true;
		else
			below |= 1ull << at;
	}
	return below;
}

static uint8_t file_system(struct worker *worker, struct dirref *dir, const char *name, uint32_t id, uint32_t dev)
{
	struct sf_tree *tree = worker->scan->tree;
	struct statfs st;
	uint32_t type = 0, at;
	int fd = dir ? openat(dir->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : dup(tree->root_fd);

	/* A type of 0 is one that nobody trusts. */
	if (fd >= 0) {
		if (fstatfs(fd, &st) == 0)
			type = (uint32_t)st.f_type;
		close(fd);
	}
	pthread_mutex_lock(&tree->lock);
	for (at = 0; at < tree->n_fs; at++)
		if (tree->fs[at].dev == dev && tree->fs[at].type == type)
			break;
	if (at == tree->n_fs) {
		if (at == SF_MAX_FS) {
			at = SF_MAX_FS - 1;
			tree->fs[at].type = 0;
		} else {
			tree->fs[at] = (struct sf_fs){ .dev = dev, .type = type, .sample = id };
			tree->n_fs++;
		}
	}
	pthread_mutex_unlock(&tree->lock);
	return (uint8_t)at;
}

/* Looks at one name; `dir` is NULL for the root. */
static void look(struct worker *worker, struct dirref *dir, uint32_t id)
{
	struct scan *scan = worker->scan;
	struct sf_tree *tree = scan->tree;
	struct sf_entry *entry = sf_entry_at(tree, id);
	struct statx st;
	char name[256];
	int rc;

	sf_entry_name(tree, id, name);
	/* An automounter's directory must not be mounted because we look at it. */
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
	if (dir)
		rc = statx(dir->fd, name, flags, STATX_BASIC_STATS, &st);
	else
		rc = statx(tree->root_fd, "", flags | AT_EMPTY_PATH, STATX_BASIC_STATS, &st);
	if (rc != 0) {
		note_error(worker, id, errno);
		return;
	}

	uint32_t dev = st.stx_dev_major << 20 | st.stx_dev_minor;
	bool is_dir = S_ISDIR(st.stx_mode);
	/* On an overlay, files that are no directories may show another device without being on another mount. */
	bool crossing = !dir || (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) || (is_dir && dev != dir->dev);
	bool was_dir = entry->alive && S_ISDIR(entry->mode);
	bool is_new = !entry->alive;
	uint8_t fs = crossing ? file_system(worker, dir, name, id, dev) : dir->fs;
	bool different = sf_entry_update(entry, &st);

	if (is_dir && !was_dir && !sf_tree_add_dir(tree, &entry->rdev)) {
		fail_memory(scan);
		return;
	}
	different = different || fs != entry->fs;
	entry->fs = fs;
	entry->alive = 1;
	entry->epoch = tree->epoch;
	if (is_new)
		note(worker, &worker->added, id);
	else if (different)
		note(worker, &worker->changed, id);
	if (S_ISREG(entry->mode) && (is_new || different))
		worker->bytes += entry->size;
	if (crossing && dir)
		note(worker, &worker->crossings, id);
	if (!is_dir || (scan->one_file_system && dir && dev != dir->dev))
		return;
	bool whole = false;
	uint64_t below = dir ? excluded(scan, dir, name, &whole) : (scan->n_excludes == 64 ? ~0ull : (1ull << scan->n_excludes) - 1);
	give(scan, (struct item){ .dir = ref(dir), .id = id, .excludes = below });
}

/* The ids of names read before, found by place first and by hash when places have shifted. */
struct match {
	struct sf_tree *tree;
	struct sf_dir *dir;
	uint32_t cursor;
	uint32_t *table;
	uint32_t mask;
};

static uint32_t hash_name(const char *name, size_t len)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t)name[i]) * 16777619u;
	return hash ^ hash >> 15;
}

static bool same_name(struct sf_tree *tree, uint32_t id, const char *name, size_t len)
{
	struct sf_entry *entry = sf_entry_at(tree, id);
	return entry->alive && entry->name_len == len && memcmp(sf_name_at(tree, entry->name), name, len) == 0;
}

static bool build_table(struct match *match)
{
	uint32_t size = 16;

	while (size < match->dir->count * 2)
		size *= 2;
	match->table = malloc(size * sizeof(*match->table));
	if (!match->table)
		return false;
	memset(match->table, 0xff, size * sizeof(*match->table));
	match->mask = size - 1;
	for (uint32_t i = 0; i < match->dir->count; i++) {
		struct sf_entry *entry = sf_entry_at(match->tree, match->dir->children[i]);
		uint32_t at = hash_name(sf_name_at(match->tree, entry->name), entry->name_len) & match->mask;
		while (match->table[at] != UINT32_MAX)
			at = (at + 1) & match->mask;
		match->table[at] = i;
	}
	return true;
}

/* UINT32_MAX for a name that is new; memory running out makes a known name look new, which costs a copy. */
static uint32_t find_name(struct match *match, const char *name, size_t len)
{
	struct sf_dir *dir = match->dir;

	if (match->cursor < dir->count && same_name(match->tree, dir->children[match->cursor], name, len))
		return dir->children[match->cursor++];
	if (dir->count == 0 || (!match->table && !build_table(match)))
		return UINT32_MAX;
	for (uint32_t at = hash_name(name, len) & match->mask; match->table[at] != UINT32_MAX; at = (at + 1) & match->mask) {
		uint32_t place = match->table[at];
		if (!same_name(match->tree, dir->children[place], name, len))
			continue;
		match->cursor = place + 1;
		return dir->children[place];
	}
	return UINT32_MAX;
}

struct dent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

/* One buffer of names: to other threads when there are many, or looked at here. */
static bool take_names(struct worker *worker, struct dirref *dir, struct match *match, struct list *children, const char *buffer, long bytes)
{
	struct scan *scan = worker->scan;
	uint32_t first = children->count;

	for (long at = 0; at < bytes;) {
		const struct dent *dent = (const struct dent *)(buffer + at);
		size_t len = strlen(dent->name);
		uint32_t id;
		bool whole = false;

		at += dent->reclen;
		if (strcmp(dent->name, ".") == 0 || strcmp(dent->name, "..") == 0)
			continue;
		if (dir->excludes)
			excluded(scan, dir, dent->name, &whole);
		if (whole)
			continue;
		id = find_name(match, dent->name, len);
		if (id == UINT32_MAX && !sf_tree_add(scan->tree, dir->id, dent->name, len, &id))
			return false;
		if (!push(children, id))
			return false;
	}
	uint32_t count = children->count - first;
	if (count < SHARE_AT || scan->threads == 1) {
		for (uint32_t i = first; i < children->count; i++)
			look(worker, dir, children->items[i]);
		return true;
	}
	/* In pieces, so that the last one is short. */
	for (uint32_t i = 0; i < count; i += SHARE_AT) {
		uint32_t n = count - i < SHARE_AT ? count - i : SHARE_AT;
		uint32_t *ids = malloc(n * sizeof(*ids));
		if (!ids)
			return false;
		memcpy(ids, children->items + first + i, n * sizeof(*ids));
		give(scan, (struct item){ .dir = ref(dir), .ids = ids, .count = n });
	}
	return true;
}

static void read_dir(struct worker *worker, const struct item *item)
{
	struct scan *scan = worker->scan;
	struct sf_tree *tree = scan->tree;
	struct sf_entry *entry = sf_entry_at(tree, item->id);
	struct sf_dir *known = sf_dir_at(tree, entry->rdev);
	char name[256];
	int fd;

	sf_entry_name(tree, item->id, name);
	if (item->dir)
		fd = openat(item->dir->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	else
		fd = openat(tree->root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		note_error(worker, item->id, errno);
		return;
	}
	struct dirref *dir = malloc(sizeof(*dir));
	char *buffer = malloc(DENTS_BYTES);
	if (!dir || !buffer) {
		free(dir);
		free(buffer);
		close(fd);
		fail_memory(scan);
		return;
	}
	*dir = (struct dirref){ .fd = fd, .id = item->id, .fs = entry->fs, .dev = entry->dev, .excludes = item->excludes, .depth = item->dir ? item->dir->depth + 1 : 0 };
	atomic_init(&dir->refs, 1);

	struct match match = { .tree = tree, .dir = known };
	struct list children = { 0 };
	long bytes;
	while ((bytes = syscall(SYS_getdents64, fd, buffer, DENTS_BYTES)) > 0) {
		if (!take_names(worker, dir, &match, &children, buffer, bytes)) {
			fail_memory(scan);
			break;
		}
	}
	if (bytes < 0)
		note_error(worker, item->id, errno);
	free(match.table);
	free(known->children);
	known->children = children.items;
	known->count = children.count;
	free(buffer);
	unref(dir);
}

static void *run_worker(void *arg)
{
	struct worker *worker = arg;
	struct scan *scan = worker->scan;

	pthread_mutex_lock(&scan->lock);
	for (;;) {
		while (scan->depth == 0 && scan->busy > 0 && !scan->out_of_memory)
			pthread_cond_wait(&scan->wake, &scan->lock);
		if (scan->depth == 0 || scan->out_of_memory)
			break;
		struct item item = scan->stack[--scan->depth];
		scan->busy++;
		pthread_mutex_unlock(&scan->lock);

		if (item.ids) {
			for (uint32_t i = 0; i < item.count; i++)
				look(worker, item.dir, item.ids[i]);
			free(item.ids);
		} else {
			read_dir(worker, &item);
		}
		unref(item.dir);

		pthread_mutex_lock(&scan->lock);
		scan->busy--;
		if (scan->busy == 0 && scan->depth == 0)
			pthread_cond_broadcast(&scan->wake);
	}
	pthread_cond_broadcast(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
	return NULL;
}

static bool join_list(struct list *into, struct list *from)
{
	for (uint32_t i = 0; i < from->count; i++)
		if (!push(into, from->items[i]))
			return false;
	free(from->items);
	return true;
}

static bool run_threads(struct scan *scan)
{
	struct worker workers[MAX_THREADS];
	bool ok = true;

	memset(workers, 0, sizeof(workers));
	for (uint32_t i = 0; i < scan->threads; i++)
		workers[i].scan = scan;
	look(&workers[0], NULL, SF_ROOT);
	/* A single file needs no thread. One that cannot be started is done without. */
	for (uint32_t i = 1; scan->depth > 0 && i < scan->threads; i++)
		workers[i].started = pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0;
	run_worker(&workers[0]);
	for (uint32_t i = 0; i < scan->threads; i++) {
		if (workers[i].started)
			pthread_join(workers[i].thread, NULL);
		ok = join_list(&scan->added, &workers[i].added) && ok;
		ok = join_list(&scan->changed, &workers[i].changed) && ok;
		ok = join_list(&scan->crossings, &workers[i].crossings) && ok;
		ok = join_list(&scan->errors, &workers[i].errors) && ok;
		scan->bytes += workers[i].bytes;
	}
	for (uint32_t i = 0; i < scan->depth; i++) {
		free(scan->stack[i].ids);
		unref(scan->stack[i].dir);
	}
	return ok && !scan->out_of_memory;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static int by_change(const void *a, const void *b, void *data)
{
	struct sf_entry *x = sf_entry_at(data, *(const uint32_t *)a);
	struct sf_entry *y = sf_entry_at(data, *(const uint32_t *)b);

	if (x->ctime_sec != y->ctime_sec)
		return x->ctime_sec < y->ctime_sec ? -1 : 1;
	if (x->ctime_nsec != y->ctime_nsec)
		return x->ctime_nsec < y->ctime_nsec ? -1 : 1;
	return by_id(a, b);
}

/*
 * Parents before children (an id is given out after its parent's), files in the order of their directory.
 * What changed lately comes last, the latest at the very end: it will probably change again.
 */
static bool order_added(struct scan *scan)
{
	struct sf_tree *tree = scan->tree;
	struct list *list = &scan->added;
	uint32_t *sorted = malloc((list->count + 1) * sizeof(*sorted));
	uint32_t cold = 0, hot = list->count;

	if (!sorted)
		return false;
	if (list->count > 0)
		qsort(list->items, list->count, sizeof(*list->items), by_id);
	for (uint32_t i = 0; i < list->count; i++) {
		struct sf_entry *entry = sf_entry_at(tree, list->items[i]);
		if (S_ISREG(entry->mode) && entry->ctime_sec >= scan->hot_since_sec)
			sorted[--hot] = list->items[i];
		else
			sorted[cold++] = list->items[i];
	}
	qsort_r(sorted + hot, list->count - hot, sizeof(*sorted), by_change, tree);
	free(list->items);
	list->items = sorted;
	list->room = list->count + 1;
	if (scan->changed.count > 0)
		qsort(scan->changed.items, scan->changed.count, sizeof(uint32_t), by_id);
	return true;
}

static bool find_removed(struct scan *scan)
{
	struct sf_tree *tree = scan->tree;

	for (uint32_t id = 0; id < tree->n_entries; id++) {
		struct sf_entry *entry = sf_entry_at(tree, id);
		if (!entry->alive || entry->epoch == tree->epoch)
			continue;
		entry->alive = 0;
		if (!push(&scan->removed, id))
			return false;
	}
	return true;
}

static void execute(napi_env env, void *data)
{
	struct scan *scan = data;
	struct sf_tree *tree = scan->tree;
	uint32_t root;

	/* The root is the one name that is followed: a tree may be given by a link to it. */
	int fd = open(scan->path, O_PATH | O_CLOEXEC);
	if (fd < 0) {
		scan->err = errno;
		scan->syscall = "open";
		return;
	}
	if (tree->root_fd >= 0)
		close(tree->root_fd);
	tree->root_fd = fd;
	tree->epoch++;
	if ((tree->n_entries == 0 && !sf_tree_add(tree, SF_ROOT, "", 0, &root)) || !run_threads(scan) || !order_added(scan) || !find_removed(scan)) {
		scan->err = ENOMEM;
		scan->syscall = "scan";
	}
}

/* Counts of each list, the size of all files new or changed (two words), then the lists. */
static napi_value result_of(napi_env env, struct scan *scan)
{
	struct list *lists[] = { &scan->added, &scan->changed, &scan->removed, &scan->crossings, &scan->errors };
	uint32_t words = 5 + 2 + 1 + scan->tree->n_fs * 3, at = 0;
	uint32_t *out;
	napi_value result;

	for (int i = 0; i < 5; i++)
		words += lists[i]->count;
	napi_create_buffer(env, (size_t)words * 4, (void **)&out, &result);
	for (int i = 0; i < 5; i++)
		out[at++] = lists[i]->count;
	out[at++] = (uint32_t)scan->bytes;
	out[at++] = (uint32_t)(scan->bytes >> 32);
	out[at++] = scan->tree->n_fs;
	for (int i = 0; i < 5; i++) {
		if (lists[i]->count > 0)
			memcpy(out + at, lists[i]->items, lists[i]->count * 4);
		at += lists[i]->count;
	}
	for (uint32_t i = 0; i < scan->tree->n_fs; i++) {
		out[at++] = scan->tree->fs[i].dev;
		out[at++] = scan->tree->fs[i].type;
		out[at++] = scan->tree->fs[i].sample;
	}
	return result;
}

static void complete(napi_env env, napi_status status, void *data)
{
	struct scan *scan = data;

	if (status != napi_ok || scan->err)
		napi_reject_deferred(env, scan->deferred, sf_errno_error(env, scan->err ? scan->err : ECANCELED, scan->err ? scan->syscall : "scan"));
	else
		napi_resolve_deferred(env, scan->deferred, result_of(env, scan));
	napi_delete_reference(env, scan->keep);
	napi_delete_async_work(env, scan->work);
	free(scan->added.items);
	free(scan->changed.items);
	free(scan->removed.items);
	free(scan->crossings.items);
	free(scan->errors.items);
	free(scan->stack);
	free(scan->path);
	free(scan->exclude_text);
	pthread_mutex_destroy(&scan->lock);
	pthread_cond_destroy(&scan->wake);
	free(scan);
}

static char *copy_bytes(napi_env env, napi_value value)
{
	void *bytes;
	size_t len;

	if (napi_get_buffer_info(env, value, &bytes, &len) != napi_ok)
		return NULL;
	char *text = malloc(len + 1);
	if (!text)
		return NULL;
	memcpy(text, bytes, len);
	text[len] = '\0';
	return text;
}

/* Each exclusion ends in a NUL; its parts are split at slashes. */
static bool parse_excludes(struct scan *scan, size_t len)
{
	for (char *at = scan->exclude_text, *end = at + len; at < end;) {
		char *next = at + strlen(at) + 1, *save = NULL;
		if (scan->n_excludes == MAX_EXCLUDES)
			return false;
		struct exclude *exclude = &scan->excludes[scan->n_excludes++];
		for (char *part = strtok_r(at, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
			if (exclude->count == 64)
				return false;
			exclude->parts[exclude->count++] = part;
		}
		if (exclude->count == 0)
			scan->n_excludes--;
		at = next;
	}
	return true;
}

/* treeScan(tree, path, threads, hotSinceSec, oneFileSystem, excludes) */
static napi_value tree_scan(napi_env env, napi_callback_info info)
{
	size_t argc = 6, exclude_len = 0;
	napi_value argv[6], promise, name;
	struct scan *scan = calloc(1, sizeof(*scan));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!scan)
		return sf_throw_errno(env, ENOMEM, "scan");
	pthread_mutex_init(&scan->lock, NULL);
	pthread_cond_init(&scan->wake, NULL);
	scan->tree = sf_tree_of(env, argv[0]);
	scan->path = copy_bytes(env, argv[1]);
	napi_get_value_uint32(env, argv[2], &scan->threads);
	napi_get_value_int64(env, argv[3], &scan->hot_since_sec);
	napi_get_value_bool(env, argv[4], &scan->one_file_system);
	scan->exclude_text = copy_bytes(env, argv[5]);
	napi_get_buffer_info(env, argv[5], NULL, &exclude_len);
	if (scan->threads < 1)
		scan->threads = 1;
	if (scan->threads > MAX_THREADS)
		scan->threads = MAX_THREADS;
	if (!scan->tree || !scan->path || !scan->exclude_text || !parse_excludes(scan, exclude_len)) {
		bool pending = false;
		free(scan->path);
		free(scan->exclude_text);
		free(scan);
		napi_is_exception_pending(env, &pending);
		return pending ? NULL : sf_throw_errno(env, EINVAL, "scan");
	}
	napi_create_promise(env, &scan->deferred, &promise);
	napi_create_reference(env, argv[0], 1, &scan->keep);
	napi_create_string_utf8(env, "stillframe:scan", NAPI_AUTO_LENGTH, &name);
	napi_create_async_work(env, NULL, name, execute, complete, scan, &scan->work);
	napi_queue_async_work(env, scan->work);
	return promise;
}

void sf_init_scan(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "treeScan", tree_scan);
}
